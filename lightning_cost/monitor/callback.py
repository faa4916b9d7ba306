"""The callback that follows what the network costs and what the run has used."""

import time
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch import nn
from typing_extensions import override

from lightning_cost.cost.measurement import Cost
from lightning_cost.cost.plain_data import ANOTHER_CHECKPOINT, entries, read_as_written
from lightning_cost.cost.resource import Resource
from lightning_cost.cost.training_flops import count_training_flops
from lightning_cost.hardware.device import Hardware
from lightning_cost.hardware.joules import open_counters
from lightning_cost.monitor.journal import SpendJournal, find_journal
from lightning_cost.monitor.measure import measure
from lightning_cost.monitor.progress_bar import CostInBar
from lightning_cost.monitor.spend import Spend, SpendMeter, with_lost_work
from lightning_cost.monitor.tracker import CostTracker, setting_of
from lightning_cost.network.checkpoint import checkpoint_folders
from lightning_cost.network.example import capture_example
from lightning_cost.network.find import find_network, is_compiled
from lightning_cost.network.lineage import Change, lineage_of, start_lineage
from lightning_cost.network.participants import (
    SpendsCompute,
    StructuralCallback,
    callbacks_of,
    run_last,
)
from lightning_cost.network.ranks import sum_over_ranks
from lightning_cost.network.structural import on_rank_zero


class CostMonitor(Callback):
    """Logs what the deployed network would cost and what the run has used.

    ``cost/*`` and ``spend/*`` go to all loggers of the Trainer at the start, after each structural
    change and every ``every_n_epochs`` epochs; MACs and latency also to the progress bar, for a
    while. The network is measured when its structure changes, on rank 0, and never between. What a
    training or validation step takes is counted on the first two of each kind. Works on its own and
    beside the other callbacks in any order.

    Args:
        hardware: The target device; without it only what can be counted is followed.
        every_n_epochs: How often to log where nothing changes.
        network: Path of the network inside the LightningModule; ``None`` to find it.
        train_hardware: The machine that trains, for energy, emissions and money; by default
            ``hardware`` where that is this machine.
        clock: Seconds that never go back, by which the run's time is taken.

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
        clock: Callable[[], float] = time.monotonic,
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
        self.meter = SpendMeter(clock=clock)
        self._clock = clock
        self._steps = self.meter.training
        self.tracker = CostTracker()
        self._phase: str | None = None
        self._example: Any = None
        self._lineage: tuple[Change, ...] | None = None
        self._network: nn.Module | None = None
        self._trained: tuple[bool, ...] = ()
        self._spenders: list[SpendsCompute] = []
        self._run_id: str | None = None
        self._journal: SpendJournal | None = None
        self._loaded: dict[str, Any] | None = None
        self._is_fitting = False
        self._has_begun = False
        self._in_bar = CostInBar()

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
        """One row for each epoch that trained: ``{epoch, step, seconds, phase, cost, metrics}``."""
        return self.tracker.history

    @property
    def run_id(self) -> str | None:
        """Of the run, the same after a resume; ``None`` before the fit starts."""
        return self._run_id

    def update_spend(self) -> Spend:
        """What the run has used until now."""
        searched = sum(callback.search_flops for callback in self._spenders)
        self.meter.searched_flops = max(self.meter.searched_flops, searched)
        return self.meter.spend

    def may_go_on(self) -> bool:
        """Always; whoever computes for long between two steps asks, and the journal is kept."""
        if self._journal is not None:
            self._journal.tick(self._clock(), self._spent)
        return True

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
        self._has_begun = False
        run_last(trainer)
        self._spenders = [
            entry for entry in callbacks_of(trainer) if isinstance(entry, SpendsCompute)
        ]
        self.meter.share_with(num_ranks=trainer.world_size, num_nodes=trainer.num_nodes)
        self.meter.start()

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        machine = self.train_hardware
        if machine is None and self.hardware is not None and self.hardware.is_local:
            machine = self.hardware
        if machine is not None:
            self.meter.price_by(
                machine, num_devices=trainer.world_size, num_nodes=trainer.num_nodes
            )
        self._go_on(trainer)
        self.meter.measure_energy(open_counters(local_rank=trainer.local_rank))
        self.meter.training.has_updates = pl_module.automatic_optimization
        self._example = capture_example(trainer, pl_module, self.network)
        self._follow(trainer, pl_module)
        self._is_fitting = True

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._log(trainer)

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._has_begun = True
        self.update_cost(trainer, pl_module)
        phases = (
            entry.phase for entry in callbacks_of(trainer) if isinstance(entry, StructuralCallback)
        )
        self._phase = next((phase for phase in phases if phase is not None), None)

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # at every step, mostly with cold caches: each function that is called takes microseconds
        if batch_idx == 0:  # other callbacks freeze and unfreeze layers when an epoch starts
            self._follow_freezing(trainer, pl_module)
        if lineage_of(self._network) is not self._lineage:  # type: ignore[arg-type]
            self.update_cost(trainer, pl_module)
            self._show(trainer, batch_idx)
        elif batch_idx == 0:
            self._show(trainer, batch_idx)
        elif batch_idx == self._in_bar.hide_at:
            self._in_bar.hide(trainer.progress_bar_metrics)
        self._steps.begin(batch)

    @override
    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any
    ) -> None:
        self._steps.update()

    @override
    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self._steps.end()
        if self._journal is not None:
            self._journal.tick(self._clock(), self._spent)

    @override
    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._is_fitting:
            self.meter.evaluation.begin(batch)

    @override
    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._is_fitting:
            self.meter.evaluation.end()

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._is_fitting:
            self._sync(trainer, pl_module)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.meter.training.abort()
        self._sync(trainer, pl_module)
        # the row is of the network that was trained and validated: written before a change counts,
        # and not where the fit was stopped between two epochs, as then nothing was
        if trainer.fit_loop.epoch_loop.batch_progress.current.completed > 0:
            self._add_row(trainer)
        changed = self._follow(trainer, pl_module)
        if changed or (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._log(trainer)

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # what ends a fit after the last epoch may let others change the network here
        self.update_cost(trainer, pl_module)

    @override
    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._end()
        if self._journal is not None:
            self._journal.close()

    @override
    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._end()
        # before that there may be no checkpoint that knows of the journal
        if self._journal is not None and self._has_begun:
            self._journal.write(self._spent())

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"meter": self._spent(), "tracker": self.tracker.state_dict()}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        with read_as_written("the checkpoint's state of CostMonitor", ANOTHER_CHECKPOINT):
            self._loaded = dict(entries(state_dict["meter"], "meter"))
            run_id = str(self._loaded.get("run_id") or "")
            self._run_id = run_id if run_id.isalnum() else None  # it becomes part of a file's name
            self.meter.load_state_dict(self._loaded)
            self.tracker.load_state_dict(state_dict["tracker"])

    def _spent(self) -> dict[str, Any]:
        """What the run has used, for checkpoints and for the journal beside them."""
        self.update_spend()
        path = None if self._journal is None else str(self._journal.path)
        return {**self.meter.state_dict(), "run_id": self._run_id, "journal": path}

    def _go_on(self, trainer: pl.Trainer) -> None:
        """Take over what the run used after its checkpoint, and keep a journal from here on."""
        self._run_id = trainer.strategy.broadcast(self._run_id or uuid.uuid4().hex)
        assert self._run_id is not None
        saved, self._loaded = self._loaded, None
        self._journal, written = None, None
        if trainer.is_global_zero:
            recorded = None if saved is None else saved.get("journal")
            self._journal = find_journal(self._run_id, checkpoint_folders(trainer), recorded)
            written = None if self._journal is None else self._journal.read()
        written = trainer.strategy.broadcast(written)
        if saved is not None and written is not None:
            self.meter.load_state_dict(with_lost_work(saved, written))

    def _sync(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.world_size == 1:
            return
        self.meter.read_joules()
        self.meter.sync(partial(sum_over_ranks, trainer, pl_module.device))

    def _end(self) -> None:
        self._is_fitting = False
        self.meter.training.abort()
        self.meter.evaluation.abort()
        self.update_spend()
        self.meter.stop()

    def _add_row(self, trainer: pl.Trainer) -> None:
        self.tracker.add_row(
            epoch=trainer.current_epoch,
            step=trainer.global_step,
            seconds=self.meter.seconds,
            phase=self._phase,
            metrics={name: float(value) for name, value in trainer.callback_metrics.items()},
        )

    def _follow(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> bool:
        """Measure the network if its structure changed, on rank 0 for all; whether it did."""
        _, network = find_network(pl_module, self.network)
        self._network, self._lineage = network, start_lineage(network)
        look = partial(measure, network, self._example, hardware=self.hardware)
        changed = self.tracker.refresh(
            network, lambda: on_rank_zero(trainer, look), setting=setting_of(self.hardware)
        )
        if changed or not self._is_fitting:
            self._count_anew(trainer, pl_module, network)
        return changed

    def _follow_freezing(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count steps anew if others of the parameters are trained."""
        if _trained_of(pl_module) != self._trained:
            assert self._network is not None
            self._count_anew(trainer, pl_module, self._network)

    def _count_anew(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, network: nn.Module
    ) -> None:
        self._trained = _trained_of(pl_module)
        training, evaluation = self.meter.training, self.meter.evaluation
        training.forget_shapes()
        evaluation.forget_shapes()
        if is_compiled(pl_module):  # a compiled step shows no operators while it runs
            flops = on_rank_zero(trainer, lambda: count_training_flops(network, self._example))
            training.flops_per_sample = flops
            evaluation.flops_per_sample = self.cost[Resource.flops].value

    def _log(self, trainer: pl.Trainer) -> None:
        costs = {resource.log_key: entry.value for resource, entry in self.cost.items()}
        metrics = costs | self.update_spend().log_metrics()
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=trainer.global_step)

    def _show(self, trainer: pl.Trainer, batch_idx: int) -> None:
        # not pl_module.log, whose every entry Lightning reads out again after each step
        self._in_bar.show(trainer.progress_bar_metrics, self.cost, batch_idx)


def _trained_of(module: nn.Module) -> tuple[bool, ...]:
    """Which of its parameters are trained."""
    return tuple(parameter.requires_grad for parameter in module.parameters())
