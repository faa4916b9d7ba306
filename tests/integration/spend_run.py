"""One part of a run that is killed: fits, kills itself where it is told to, or writes its spend."""

import json
import os
import signal
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset

from lightning_cost.monitor.callback import CostMonitor
from tests.monitor.halving import NUM_INPUTS, Classifier, Halve

NUM_EPOCHS, STEPS_PER_EPOCH, BATCH_SIZE, NUM_VALIDATION = 6, 20, 8, 20
LAST = "last.ckpt"


class Validated(Classifier):
    """With a validation step, in batches of which the last one is smaller."""

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", torch.nn.functional.cross_entropy(self(batch[0]), batch[1]))


class StepsAsSeconds:
    """A clock that training steps move: one second each, and a hundredth for a new start."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1e-4
        return self.now


class Killer(pl.Callback):
    """Moves the clock, and kills the process before the step that it is told."""

    def __init__(self, clock, step):
        self.clock, self.step = clock, step

    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_train_batch_end(self, *_):
        self.clock.now += 1.0


def data(num_samples: int) -> TensorDataset:
    inputs = torch.randn(num_samples, NUM_INPUTS, generator=torch.Generator().manual_seed(0))
    return TensorDataset(inputs, (inputs[:, 0] > 0).long())


def main(folder: Path, num_ranks: int, kill_at: int, checkpoint: str | None) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    clock = StepsAsSeconds()
    monitor = CostMonitor(clock=clock)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=num_ranks,
        strategy="ddp" if num_ranks > 1 else "auto",
        max_epochs=NUM_EPOCHS,
        callbacks=[
            monitor,
            Halve(2),
            Killer(clock, kill_at),
            ModelCheckpoint(folder, filename="last", enable_version_counter=False),
        ],
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(
        Validated(),
        DataLoader(data(STEPS_PER_EPOCH * BATCH_SIZE * num_ranks), batch_size=BATCH_SIZE),
        DataLoader(data(NUM_VALIDATION * num_ranks), batch_size=BATCH_SIZE),
        ckpt_path=checkpoint,
        weights_only=True,
    )
    (folder / f"spend_{trainer.global_rank}.json").write_text(
        json.dumps(monitor.update_spend().to_dict())
    )
