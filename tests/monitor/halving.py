"""A network, a module and a callback that halves the network once: the smallest real case."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_cost.network.lineage import Change, ParameterSwap
from lightning_cost.network.structural import apply_during_fit, install_replay

NUM_SAMPLES, BATCH_SIZE, NUM_INPUTS = 24, 8, 4


def dense_macs(hidden: int = 8) -> int:
    return NUM_INPUTS * hidden + hidden * 2


class Classifier(pl.LightningModule):
    def __init__(self, hidden: int = 8) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(NUM_INPUTS, hidden), nn.ReLU(), nn.Linear(hidden, 2))

    def forward(self, inputs):
        return self.network(inputs)

    def training_step(self, batch, batch_idx):
        inputs, labels = batch
        loss = nn.functional.cross_entropy(self(inputs), labels)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def loader() -> DataLoader:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(NUM_SAMPLES, NUM_INPUTS, generator=generator)
    return DataLoader(TensorDataset(inputs, (inputs[:, 0] > 0).long()), batch_size=BATCH_SIZE)


@dataclass(frozen=True, kw_only=True, slots=True)
class KeepHidden(Change):
    kind: ClassVar[str] = "test_keep_hidden"
    kept: tuple[int, ...]

    def apply(self, network: nn.Module) -> list[ParameterSwap]:
        first, last = network[0], network[2]
        index = torch.tensor(self.kept)
        swaps = [
            _sliced(first, "weight", 0, index),
            _sliced(first, "bias", 0, index),
            _sliced(last, "weight", 1, index),
        ]
        first.out_features = last.in_features = len(self.kept)
        return swaps

    def to_dict(self) -> dict[str, Any]:
        return {"kept": list(self.kept)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "KeepHidden":
        return cls(kept=tuple(data["kept"]))


def _sliced(module: nn.Module, name: str, dim: int, index: torch.Tensor) -> ParameterSwap:
    old = getattr(module, name)
    new = nn.Parameter(old.detach().index_select(dim, index))
    setattr(module, name, new)
    return ParameterSwap(old=old, new=new, kept={dim: index})


class Halve(pl.Callback):
    """Halves the hidden layer at the start of one epoch, or at its end."""

    def __init__(self, epoch: int, *, at_end: bool = False, recover_epochs: int = 1) -> None:
        self.epoch, self.at_end, self.recover_epochs = epoch, at_end, recover_epochs
        self.last_epoch = -1
        self.is_halved = False
        self.search_flops = 0.0

    @property
    def phase(self) -> str | None:
        return "recover" if self.is_halved and not self.is_finished else None

    @property
    def is_finished(self) -> bool:
        return self.is_halved and self.last_epoch >= self.epoch + self.recover_epochs - 1

    def preview(self, network: nn.Module, example: Any) -> nn.Module:
        return network

    def setup(self, trainer, pl_module, stage):
        install_replay(pl_module, "network")

    def on_train_epoch_start(self, trainer, pl_module):
        if not self.at_end:
            self._halve(trainer, pl_module)

    def on_train_epoch_end(self, trainer, pl_module):
        self.last_epoch = trainer.current_epoch
        if self.at_end:
            self._halve(trainer, pl_module)

    def _halve(self, trainer, pl_module):
        if trainer.current_epoch == self.epoch and not self.is_halved:
            half = pl_module.network[0].out_features // 2
            apply_during_fit(trainer, pl_module.network, KeepHidden(kept=tuple(range(half))))
            self.is_halved = True
            self.search_flops += 1000.0

    def state_dict(self):
        return {
            "last_epoch": self.last_epoch,
            "is_halved": self.is_halved,
            "search_flops": self.search_flops,
        }

    def load_state_dict(self, state_dict):
        self.last_epoch = state_dict["last_epoch"]
        self.is_halved = state_dict["is_halved"]
        self.search_flops = state_dict["search_flops"]


def make_trainer(folder: Path, callbacks: list[pl.Callback], **options: Any) -> pl.Trainer:
    settings = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": folder,
        "max_epochs": 4,
    }
    return pl.Trainer(callbacks=callbacks, **(settings | options))


def logged_rows(folder: Path) -> list[dict[str, str]]:
    """The rows of a CSVLogger's file that hold costs."""
    with next(folder.rglob("metrics.csv")).open() as file:
        return [row for row in csv.DictReader(file) if row.get("cost/macs")]
