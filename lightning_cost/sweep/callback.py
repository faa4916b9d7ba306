"""The callback that tells a study of a run while it trains, and stops it where that is no use."""

import math

import optuna
import pytorch_lightning as pl
from optuna.trial import Trial
from pytorch_lightning.callbacks import Callback
from typing_extensions import override


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
