"""A checkpoint before the first step, so that a run can be gone on with from its beginning."""

from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint
from typing_extensions import override


class FirstCheckpoint(Checkpoint):
    """Saves the run as it is before it trains; what a kill in its first epoch loses is counted.

    Args:
        path: The file, which the checkpoint of the first epoch's end replaces.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.global_step == 0:
            trainer.save_checkpoint(self.path, weights_only=False)
