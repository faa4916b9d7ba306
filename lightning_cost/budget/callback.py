"""The callback that ends the fit when the budget is kept, or spent."""

import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities import rank_zero_info
from typing_extensions import override

from lightning_cost.budget.forecast import Forecast
from lightning_cost.budget.model import ModelBudget
from lightning_cost.budget.training import TrainingBudget
from lightning_cost.cost.measurement import Cost
from lightning_cost.cost.plain_data import ANOTHER_CHECKPOINT, read_as_written, text
from lightning_cost.hardware.device import Hardware
from lightning_cost.monitor.callback import CostMonitor
from lightning_cost.monitor.spend import Spend
from lightning_cost.network.participants import (
    StructuralCallback,
    callbacks_of,
    run_last,
    set_callbacks,
)

_log = logging.getLogger(__name__)


class BudgetStopping(Callback):
    """Stops the fit on all ranks, with a checkpoint and a reason.

    It stops at the end of the epoch in which all structural callbacks are finished and the
    deployed network keeps ``model``; and before the training step that would break ``training``,
    restarts included, judged by the last steps and by what ending the fit takes. The reason is in
    :attr:`stop_reason`, in the log and in the checkpoint ``budget.ckpt``. An interrupt leaves
    ``interrupted.ckpt``. Works on its own and beside the other callbacks in any order; it shares
    the Trainer's :class:`CostMonitor`, or adds one.

    Args:
        model: Limits on the deployed network.
        training: Limits on the run.
        hardware: The target device; by default the ``CostMonitor``'s.
        network: Path of the network inside the LightningModule; ``None`` to find it.
        checkpoint_dir: Where checkpoints go; by default the Trainer's log directory.
        train_hardware: The machine that trains, for energy, emissions and money.
        saves_interrupted: Whether an interrupt leaves ``interrupted.ckpt``. From the middle of an
            epoch no fit goes on bit-identically: not wanted where the ends of epochs are kept.

    Raises:
        ValueError: If nothing is limited.
    """

    runs_after = 2

    def __init__(
        self,
        model: ModelBudget | None = None,
        training: TrainingBudget | None = None,
        *,
        hardware: Hardware | None = None,
        network: str | None = None,
        checkpoint_dir: str | None = None,
        train_hardware: Hardware | None = None,
        saves_interrupted: bool = True,
    ) -> None:
        self.model = model if model is not None else ModelBudget()
        self.training = training if training is not None else TrainingBudget()
        if self.model.is_empty and self.training.is_empty:
            raise ValueError(
                "model or training must limit something, got two empty budgets; "
                "pass for example model=ModelBudget(macs='50%')"
            )
        self.hardware = hardware
        self.network = network
        self.checkpoint_dir = checkpoint_dir
        self.train_hardware = train_hardware
        self.saves_interrupted = saves_interrupted
        self._monitor = CostMonitor(hardware, network=network, train_hardware=train_hardware)
        self._forecast = Forecast()
        self._search = Forecast()
        self._num_validation_batches = 0
        self._stop_reason: str | None = None
        self._folder: Path | None = None

    @property
    def stop_reason(self) -> str | None:
        """Why the fit was stopped; ``None`` while it goes on, or if it ended by itself."""
        return self._stop_reason

    @property
    def monitor(self) -> CostMonitor:
        """What knows the costs and the spend of this run."""
        return self._monitor

    def headroom(self) -> dict[str, float]:
        """1 − used / limit for every limit of both budgets, as of the last measurement."""
        used: dict[str, float] = {}
        if not self.model.is_empty:
            cost = self.model.headroom(self._monitor.cost, self._monitor.dense or {})
            used |= {resource.value: headroom for resource, headroom in cost.items()}
        spend = self.training.headroom(self._monitor.update_spend())
        return used | {f"training/{name}": headroom for name, headroom in spend.items()}

    def may_go_on(self) -> bool:
        """Whether there is time for more of what is going on between two steps, such as a search.

        To be asked again and again while it goes on, on one rank.
        """
        if self.training.is_empty:
            return True
        spend = self._monitor.update_spend()
        self._search.step_ended(self.training.used(spend))
        more, end = self._search.next_step(), self._forecast.ending(self._num_validation_batches)
        more = {name: value + end.get(name, 0.0) for name, value in more.items()}
        return self.training.exceeded_by(spend, more) is None

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._monitor = self._join_monitor(trainer, pl_module, stage)
        if stage != "fit":
            return
        self.model.require_hardware(self._monitor.hardware)
        self._folder = _writable(self.checkpoint_dir or trainer.log_dir or trainer.default_root_dir)

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.headroom()

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # a fit that has no epochs left does not come here, and keeps the reason of the one before
        was_stopped, self._stop_reason = self._stop_reason is not None, None
        self._num_validation_batches = _finite_sum(trainer.num_val_batches)
        self._check_training(trainer)
        if was_stopped:
            self._check_model(trainer, pl_module)

    @override
    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self._check_training(trainer, has_stepped=True)

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._folder is None or trainer.sanity_checking or self.training.is_empty:
            return
        self._forecast.validated(self.training.used(self._monitor.update_spend()))

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self.training.is_empty:
            self._forecast.interrupted(self.training.used(self._monitor.update_spend()))
        self._check_training(trainer)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self.training.is_empty:
            self._forecast.epoch_ended(self.training.used(self._monitor.update_spend()))
        self._check_model(trainer, pl_module)

    @override
    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._folder = None
        broken = self._broken_limits()
        if broken and trainer.is_global_zero:
            _log.warning("the model budget is not kept: %s", broken)

    @override
    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        is_interrupted = self.saves_interrupted and isinstance(exception, KeyboardInterrupt)
        if self._folder is not None and is_interrupted:
            path = self._folder / "interrupted.ckpt"
            trainer.save_checkpoint(path, weights_only=False)
            rank_zero_info(f"Interrupted: go on with fit(..., ckpt_path={str(path)!r})")
        self._folder = None

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"stop_reason": self._stop_reason, "forecast": self._forecast.state_dict()}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        with read_as_written("the checkpoint's state of BudgetStopping", ANOTHER_CHECKPOINT):
            reason = state_dict["stop_reason"]
            self._stop_reason = None if reason is None else text(reason, "stop_reason")
            if "forecast" in state_dict:
                self._forecast.load_state_dict(state_dict["forecast"])

    def _join_monitor(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str
    ) -> CostMonitor:
        """The Trainer's monitor, told of what only this callback knows, or one added to it."""
        monitors = [entry for entry in callbacks_of(trainer) if isinstance(entry, CostMonitor)]
        if not monitors:
            monitor = CostMonitor(
                self.hardware, network=self.network, train_hardware=self.train_hardware
            )
            set_callbacks(trainer, [*callbacks_of(trainer), monitor])
            monitor.setup(trainer, pl_module, stage)
            return monitor
        for name in ("hardware", "network", "train_hardware"):
            mine, theirs = getattr(self, name), getattr(monitors[0], name)
            if mine is not None and theirs is not None and mine != theirs:
                raise ValueError(
                    f"{name} must be the same for BudgetStopping and CostMonitor, got {mine!r} "
                    f"and {theirs!r}; give it to one of them"
                )
            setattr(monitors[0], name, theirs if mine is None else mine)
        run_last(trainer)
        return monitors[0]

    def _check_training(self, trainer: pl.Trainer, *, has_stepped: bool = False) -> None:
        if self.training.is_empty or self._stop_reason is not None:
            return
        spend = self._monitor.update_spend()
        if has_stepped:
            self._forecast.step_ended(self.training.used(spend))
        more = self._forecast.next_step(
            num_validation_batches=self._num_validation_batches,
            validates_first=has_stepped and _validates_now(trainer),
            is_last_batch=has_stepped and trainer.is_last_batch,
        )
        name = self.training.exceeded_by(spend, more)
        if trainer.strategy.reduce_boolean_decision(name is not None, all=False):
            reason = None if name is None else _spent(self.training, spend, name)
            self._stop(trainer, _first_reason(trainer, reason))

    def _check_model(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.model.is_empty or self._stop_reason is not None:
            return
        cost = self._monitor.update_cost(trainer, pl_module)
        is_done = self.model.is_kept(cost, self._monitor.dense or {}) and all(
            entry.is_finished
            for entry in callbacks_of(trainer)
            if isinstance(entry, StructuralCallback)
        )
        if trainer.strategy.reduce_boolean_decision(is_done, all=True):
            reason = _kept(self.model, cost, self._monitor.dense or {})
            self._stop(trainer, trainer.strategy.broadcast(reason))

    def _stop(self, trainer: pl.Trainer, reason: str) -> None:
        """Stop on this rank; all ranks have agreed to, and to the reason."""
        assert self._folder is not None
        self._stop_reason = reason
        trainer.should_stop = True
        path = self._folder / "budget.ckpt"
        trainer.save_checkpoint(path, weights_only=False)
        rank_zero_info(f"Stopped: {self._stop_reason}. Checkpoint: {path}")

    def _broken_limits(self) -> str:
        dense, cost = self._monitor.dense or {}, self._monitor.cost
        limits = self.model.limits(dense)
        return ", ".join(
            f"{resource} {cost[resource].value:.4g} of {limit:.4g} {resource.unit}"
            for resource, limit in limits.items()
            if cost[resource].value > limit
        )


def _kept(budget: ModelBudget, cost: Cost, dense: Cost) -> str:
    limits = ", ".join(
        f"{resource} {cost[resource].value:.4g} of {limit:.4g} {resource.unit}"
        for resource, limit in budget.limits(dense).items()
    )
    return f"model budget kept: {limits}"


def _spent(budget: TrainingBudget, spend: Spend, name: str) -> str:
    used, limit = budget.used(spend)[name], budget.limits()[name]
    return (
        f"training budget spent: {name} {used:.4g} of {limit:.4g}, which another step, and "
        "ending the fit, would exceed"
    )


def _first_reason(trainer: pl.Trainer, reason: str | None) -> str:
    """The reason of the first rank that has one, on all ranks."""
    for rank in range(trainer.world_size):
        found: str | None = trainer.strategy.broadcast(reason, src=rank)
        if found is not None:
            return found
    raise AssertionError("some rank has a reason")


def _validates_now(trainer: pl.Trainer) -> bool:
    """Whether the step that has just ended is one that a validation comes after, stopped or not."""
    every_n_epochs, num_batches = trainer.check_val_every_n_epoch, trainer.val_check_batch
    if every_n_epochs is not None and (trainer.current_epoch + 1) % every_n_epochs != 0:
        return False
    if num_batches is None:  # by the clock: it may come after any step
        return True
    if math.isinf(num_batches):
        return trainer.is_last_batch
    loop = trainer.fit_loop
    index = loop.total_batch_idx if every_n_epochs is None else loop.batch_idx
    return (index + 1) % num_batches == 0


def _finite_sum(num_batches: Sequence[float]) -> int:
    """Batches of all validation loaders that know their length."""
    return sum(int(number) for number in num_batches if math.isfinite(number))


def _writable(folder: str) -> Path:
    """``folder``, made if need be.

    Raises:
        ValueError: If checkpoints cannot be written there.
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"checkpoint_dir must be writable, got {folder!r} ({error.strerror}); "
            "choose another directory"
        ) from error
    if not os.access(path, os.W_OK):
        raise ValueError(
            f"checkpoint_dir must be writable, got {folder!r}, which is not; "
            "choose another directory"
        )
    return path
