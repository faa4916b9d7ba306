"""Training without compression: the network's structure stays, and so does the budget's check."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch import nn
from typing_extensions import override


class PlainTraining(Callback):
    """Says that the fit is over once the network has been trained as it is.

    Without it a network that keeps its budget from the start would be done after one epoch.

    Args:
        epochs: Length of the training.
    """

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self._num_left = epochs

    @property
    def phase(self) -> str | None:
        """There is one phase alone, which has no name."""
        return None

    @property
    def is_finished(self) -> bool:
        """Whether the last epoch is trained."""
        return self._num_left <= 0

    def preview(self, network: nn.Module, example: Any) -> nn.Module:
        """``network`` as it is."""
        return network

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._num_left = self.epochs - trainer.current_epoch - 1
