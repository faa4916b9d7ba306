"""A fit of very many very short epochs, which notes down after each what its process holds."""

import json
import os
import resource
import threading
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_cost.budget.model import ModelBudget
from lightning_cost.hardware.device import Hardware
from lightning_cost.network.checkpoint_file import WholeCheckpoints
from lightning_cost.network.participants import StructuralCallback
from lightning_cost.pruning.schedule import PruningSchedule
from lightning_cost.pruning.search.evolution import EvolutionSearch
from lightning_cost.pruning.target.channels import ChannelRules
from lightning_cost.quantization.rules import QuantizationRules
from lightning_cost.recipe.callbacks import compress_to
from lightning_cost.recipe.config import CompressSettings
from lightning_cost.recipe.run_dir import LAST_NAME, PREVIOUS_NAME
from lightning_cost.zoo.classifier import ImageClassifier, LearningPhase

NUM_STEPS = 4
NUM_SAME_STEPS = 4


def main(folder: Path, num_epochs: int) -> int:
    """Fit for ``num_epochs``: pruning in the first twentieth, quantised from the middle on.

    Writes ``held.json``: for each epoch the phase, the resident bytes, open files, threads, and the
    seconds of processor time that it took, and that the same work took right after it.
    """
    torch.set_num_threads(1)
    pl.seed_everything(0, verbose=False)
    warmup = num_epochs // 40
    schedule = PruningSchedule(
        warmup_epochs=warmup,
        num_steps=NUM_STEPS,
        epochs_per_step=max(1, warmup // NUM_STEPS),
        recover_epochs=1,
    )
    quantize_epochs = num_epochs // 2
    schedule.recover_epochs += num_epochs - quantize_epochs - schedule.end_epoch
    settings = CompressSettings(
        schedule=schedule,
        search=EvolutionSearch(num_candidates=4, calibration_samples=64, search_samples=64),
        channels=ChannelRules(multiple=1),
        quantize="int8",
        quantize_epochs=quantize_epochs,
        # whatever makes an epoch cheaper is over when the phase counts as warm
        quantization=QuantizationRules(freeze_after=0.1, freeze_norms_after=0.15),
    )
    hardware = Hardware.local(runtime="onnxruntime", num_threads=1)
    callbacks = compress_to(ModelBudget(macs="50%"), hardware=hardware, settings=settings)
    last = ModelCheckpoint(folder, filename=Path(LAST_NAME).stem, enable_version_counter=False)
    holding = Holding()
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=num_epochs,
        callbacks=[*callbacks, holding, last],
        plugins=[WholeCheckpoints({LAST_NAME: PREVIOUS_NAME})],
        logger=CSVLogger(folder, name="", version="logs"),
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    module = ImageClassifier(
        _network(),
        num_classes=4,
        phases=[LearningPhase(epochs=num_epochs, peak=0.05)],
        channels_last=False,
    )
    trainer.fit(module, DataLoader(_data(64), batch_size=64), DataLoader(_data(32), batch_size=32))
    (folder / "held.json").write_text(json.dumps(holding.rows))
    return 0


class Holding(pl.Callback):
    """Notes what the process holds at the end of each epoch, and how fast the machine is then."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self._images = torch.ones(8, 1, 6, 6)
        self._same_network = _network()
        self._since = time.process_time()
        self._phase: str | None = None

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        changing = (each for each in trainer.callbacks if isinstance(each, StructuralCallback))
        self._phase = next((each.phase for each in changing if each.phase is not None), None)

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        ended = time.process_time()
        self._same_work()
        same = time.process_time() - ended
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.rows.append(
            {
                "phase": self._phase,
                "resident_bytes": pages * resource.getpagesize(),
                "files": len(os.listdir("/proc/self/fd")),
                "threads": max(threading.active_count(), len(os.listdir("/proc/self/task"))),
                "cpu_s": ended - self._since,
                "same_cpu_s": same,
            }
        )
        self._since = time.process_time()

    def _same_work(self) -> None:
        for _ in range(NUM_SAME_STEPS):
            self._same_network(self._images).sum().backward()
            self._same_network.zero_grad()


def _network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    )


def _data(num_samples: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(num_samples)
    images = torch.randn(num_samples, 1, 6, 6, generator=generator)
    return TensorDataset(images, images.mean((1, 2, 3)).argsort().argsort() * 4 // num_samples)
