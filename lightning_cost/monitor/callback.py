"""The callback that follows what the network costs and what the run has used."""

import warnings
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, Checkpoint
from torch import Tensor, nn
from typing_extensions import override

from lightning_cost.cost.macs import count_training_flops
from lightning_cost.cost.measurement import Cost
from lightning_cost.cost.resource import Resource
from lightning_cost.hardware.device import Hardware
from lightning_cost.monitor.measure import measure
from lightning_cost.monitor.spend import Spend, SpendMeter
from lightning_cost.monitor.tracker import CostTracker
from lightning_cost.network.example import capture_example
from lightning_cost.network.find import find_network
from lightning_cost.network.lineage import Change, lineage_of, start_lineage
from lightning_cost.network.participants import (
    SpendsCompute,
    StructuralCallback,
    callbacks_of,
    set_callbacks,
)

_IN_PROGRESS_BAR = (Resource.macs, Resource.latency_ms)


class CostMonitor(Callback):
    """Logs what the deployed network would cost and what the run has used.

    ``cost/*`` and ``spend/*`` go to all loggers of the Trainer at the start, after each structural
    change and every ``every_n_epochs`` epochs; MACs and latency also to the progress bar. The
    network is measured when its structure changes, on rank 0, and never between. Works on its own
    and beside the other callbacks in any order.

    Args:
        hardware: The target device; without it only what can be counted is followed.
        every_n_epochs: How often to log where nothing changes.
        network: Path of the network inside the LightningModule; ``None`` to find it.
        train_hardware: The machine that trains, for energy, emissions and money; by default
            ``hardware`` where that is this machine.

    Raises:
        ValueError: If ``every_n_epochs`` is not positive.
    """

    runs_after = 1

    def __init__(
        self,
        hardware: Hardware | None = None,
        every_n_epochs: int = 1,
        *,
        network: str | None = None,
        train_hardware: Hardware | None = None,
    ) -> None:
        if every_n_epochs < 1:
            raise ValueError(
                f"every_n_epochs must be >= 1, got {every_n_epochs}; "
                "the start and structural changes are logged in any case"
            )
        self.hardware = hardware
        self.every_n_epochs = every_n_epochs
        self.network = network
        self.train_hardware = train_hardware
        self.meter = SpendMeter()
        self.tracker = CostTracker()
        self._phase: str | None = None
        self._example: Any = None
        self._lineage: tuple[Change, ...] | None = None
        self._network: nn.Module | None = None
        self._spenders: list[SpendsCompute] = []
        self._world_size = 1

    @property
    def dense(self) -> Cost | None:
        """Cost before any structural change; ``None`` if the run began with a changed network."""
        return self.tracker.dense

    @property
    def cost(self) -> Cost:
        """Cost of the network as it was last measured."""
        return self.tracker.cost

    @property
    def history(self) -> list[dict[str, Any]]:
        """One row an epoch: ``{epoch, step, seconds, phase, cost, metrics}``."""
        return self.tracker.history

    def update_spend(self) -> Spend:
        """What the run has used until now."""
        searched = sum(callback.search_flops for callback in self._spenders)
        self.meter.search_flops = max(self.meter.search_flops, searched)
        return self.meter.spend

    def update_cost(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> Cost:
        """The cost of the network as it is now; measured, and logged, if its structure changed.

        To be called on all ranks.
        """
        if self._follow(trainer, pl_module):
            self._log(trainer)
        return self.cost

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        run_last(trainer)
        self._spenders = [
            entry for entry in callbacks_of(trainer) if isinstance(entry, SpendsCompute)
        ]
        _, self._network = find_network(pl_module, self.network)
        self._world_size = trainer.world_size
        self.meter.num_machines = trainer.num_nodes
        self.meter.start()

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        machine = self.train_hardware
        if machine is None and self.hardware is not None and self.hardware.is_local:
            machine = self.hardware
        if machine is not None:
            self.meter.power_w = machine.power_w
            self.meter.price_usd_per_hour = machine.price_usd_per_hour
        self._example = capture_example(trainer, pl_module, self.network)
        self._follow(trainer, pl_module)

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._log(trainer)

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.update_cost(trainer, pl_module)
        phases = (
            entry.phase for entry in callbacks_of(trainer) if isinstance(entry, StructuralCallback)
        )
        self._phase = next((phase for phase in phases if phase is not None), None)

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        assert self._network is not None
        if lineage_of(self._network) is not self._lineage:
            self.update_cost(trainer, pl_module)
            self._show(trainer)
        elif batch_idx == 0:
            self._show(trainer)

    @override
    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self.meter.add_samples(_num_samples(batch) * self._world_size)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # the row is of the network that was trained and validated: written before a change counts
        self.tracker.add_row(
            epoch=trainer.current_epoch,
            step=trainer.global_step,
            seconds=self.meter.seconds,
            phase=self._phase,
            metrics=_metrics(trainer),
        )
        changed = self._follow(trainer, pl_module)
        if changed or (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._log(trainer)

    @override
    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.update_spend()
        self.meter.stop()

    @override
    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self.update_spend()
        self.meter.stop()

    @override
    def state_dict(self) -> dict[str, Any]:
        self.update_spend()
        return {"meter": self.meter.state_dict(), "tracker": self.tracker.state_dict()}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.meter.load_state_dict(state_dict["meter"])
        self.tracker.load_state_dict(state_dict["tracker"])

    def _follow(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> bool:
        """Measure the network if its structure changed, on rank 0 for all; whether it did."""
        _, network = find_network(pl_module, self.network)
        self._network, self._lineage = network, start_lineage(network)

        def measured() -> Cost:
            found: tuple[Cost, float] = ({}, 0)
            if trainer.is_global_zero:
                found = (
                    measure(network, self._example, hardware=self.hardware),
                    count_training_flops(network, self._example),
                )
            cost, self.meter.flops_per_sample = trainer.strategy.broadcast(found)
            return cost

        return self.tracker.refresh(network, measured)

    def _log(self, trainer: pl.Trainer) -> None:
        costs = {resource.log_key: entry.value for resource, entry in self.cost.items()}
        metrics = costs | self.update_spend().log_metrics()
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=trainer.global_step)

    def _show(self, trainer: pl.Trainer) -> None:
        # not pl_module.log, whose every entry Lightning reads out again after each step
        trainer.progress_bar_metrics.update(
            {
                resource.log_key: float(self.cost[resource].value)
                for resource in _IN_PROGRESS_BAR
                if resource in self.cost
            }
        )


@runtime_checkable
class RunsAfter(Protocol):
    """A callback that observes what the others did in the same hook."""

    runs_after: int


def run_last(trainer: pl.Trainer) -> None:
    """Put the observing callbacks behind the others, whatever the order of the list was.

    Checkpoint callbacks stay last of all.
    """

    def place(callback: Callback) -> float:
        if isinstance(callback, Checkpoint):
            return float("inf")
        return callback.runs_after if isinstance(callback, RunsAfter) else 0

    set_callbacks(trainer, sorted(callbacks_of(trainer), key=place))


def _metrics(trainer: pl.Trainer) -> dict[str, float]:
    """The Trainer's metrics so far."""
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def _num_samples(batch: Any) -> int:
    """Samples in a batch: the first dimension of its first tensor."""
    found = _first_dimension(batch)
    if found is None:
        warnings.warn(
            "training FLOPs count one sample a step: the batch holds no tensor", stacklevel=2
        )
        return 1
    return found


def _first_dimension(value: Any) -> int | None:
    if isinstance(value, Tensor):
        return value.shape[0] if value.dim() > 0 else None
    # runs after every step, when little of it is in the cache: the usual forms first
    if isinstance(value, (list, tuple)):
        entries: Iterable[Any] = value
    elif isinstance(value, Mapping):
        entries = value.values()
    else:
        return None
    for entry in entries:
        size = _first_dimension(entry)
        if size is not None:
            return size
    return None
