"""Callbacks that tell a study of a run while it trains, and stop it where the study has to."""

import math
import time
from collections.abc import Callable

import optuna
import pytorch_lightning as pl
from optuna.trial import Trial
from pytorch_lightning.callbacks import Callback
from typing_extensions import override

from lightning_cost.budget.training import TrainingBudget
from lightning_cost.monitor.callback import CostMonitor
from lightning_cost.network.participants import callbacks_of
from lightning_cost.sweep.spending import SPENT, amounts_of, first_exceeded, used_by_all

_INTERVAL_S = 2.0
_EPOCH = "epoch"


class SweepBudgetSpentError(Exception):
    """The sweep has used what it may; the run can go on where it has more."""


class TrialReporting(Callback):
    """Reports a metric after each epoch, and ends the run where the study's pruner says so.

    Args:
        trial: Of the study, opened in this process.
        metric: What is reported.

    Raises:
        optuna.TrialPruned: Out of ``Trainer.fit``, on all ranks.
    """

    def __init__(self, trial: Trial, metric: str) -> None:
        self.trial = trial
        self.metric = metric

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        value = trainer.callback_metrics.get(self.metric)
        if trainer.sanity_checking or value is None:
            return
        is_pruned, reason = False, ""
        if trainer.is_global_zero:
            epoch, number = trainer.current_epoch, float(value)
            # after a resumption an epoch may be told of again
            if epoch not in self.trial.study.trials[self.trial.number].intermediate_values:
                self.trial.report(number, epoch)
            is_pruned = not math.isfinite(number) or self.trial.should_prune()
            reason = f"{self.metric} {number:.4g} after epoch {epoch}"
        if trainer.strategy.broadcast(is_pruned):
            raise optuna.TrialPruned(trainer.strategy.broadcast(reason))


class TrialSpending(Callback):
    """Tells the study what a run uses, and ends the run where the sweep's budget is used up.

    The study hears of it every few seconds, and when the run has ended. The run ends between two
    epochs, before one that takes as much as the last would break a limit of the sweep.

    Args:
        trial: Of the study, opened in this process.
        training: Limits on what all runs of the sweep use together.
        clock: Seconds that never go back.

    Raises:
        SweepBudgetSpentError: Out of ``Trainer.fit``, on all ranks.
    """

    def __init__(
        self,
        trial: Trial,
        training: TrainingBudget,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.trial = trial
        self.limits = training.limits()
        self._clock = clock
        self._next_at = -math.inf
        self._monitor: CostMonitor | None = None
        self._before: dict[str, float] | None = None
        self._epoch: dict[str, float] = trial.user_attrs.get(_EPOCH, {})

    def record(self) -> None:
        """Tell the study what the run has used until now; to be called on one rank."""
        monitor = self._monitor
        if monitor is not None and monitor.run_id is not None:
            self._next_at = self._clock() + _INTERVAL_S
            self.trial.set_user_attr(SPENT + monitor.run_id, amounts_of(monitor.update_spend()))

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        monitors = [entry for entry in callbacks_of(trainer) if isinstance(entry, CostMonitor)]
        self._monitor = monitors[0] if monitors else None

    @override
    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        if trainer.is_global_zero and self._clock() >= self._next_at:
            self.record()

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # here, and not at the end of an epoch, the checkpoint of the last one has been written
        if not self.limits or self._monitor is None:
            return
        reason = self._reason() if trainer.is_global_zero else None
        reason = trainer.strategy.broadcast(reason)
        if reason is not None:
            raise SweepBudgetSpentError(reason)

    def _reason(self) -> str | None:
        assert self._monitor is not None
        now = amounts_of(self._monitor.update_spend())
        self.record()
        before, self._before = self._before, now
        used = used_by_all(self.trial.study.get_trials(deepcopy=False))
        if before is not None:
            self._epoch = {name: amount - before[name] for name, amount in now.items()}
        reason = first_exceeded(self.limits, used, self._epoch, "another epoch")
        if reason is not None:  # a process that goes on with it is to know at once
            self.trial.set_user_attr(_EPOCH, self._epoch)
        return reason
