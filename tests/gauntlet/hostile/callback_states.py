"""What callbacks wrote into a checkpoint, changed before a fit goes on from it."""

import copy
import json
import logging
import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from functools import cache
from io import StringIO
from pathlib import Path
from random import Random
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_cost import ModelBudget, TrainingBudget, load_compressed
from lightning_cost.network.lineage import CHECKPOINT_KEY, lineage_of, lineage_to_list
from lightning_cost.pruning.schedule import PruningSchedule
from lightning_cost.pruning.search.evolution import EvolutionSearch
from lightning_cost.pruning.target.channels import ChannelRules
from lightning_cost.recipe.callbacks import compress_to
from lightning_cost.recipe.config import CompressSettings
from tests.gauntlet.hostile.damage import damaged, odd_value
from tests.gauntlet.hostile.trial import SilentError, Subject

_SCHEDULE = PruningSchedule(warmup_epochs=1, num_steps=2, recover_epochs=1, shape="linear")


class _Fit(pl.LightningModule):
    """A network of two layers, which a fit takes a moment for."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        layers = [nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.ReLU()]
        self.network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16, 3))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return nn.functional.cross_entropy(self.network(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/loss", self.training_step(batch, batch_idx))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), 1e-3)


class _Data(pl.LightningDataModule):
    def train_dataloader(self) -> DataLoader:
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(24, 1, 6, 6, generator=generator)
        return DataLoader(TensorDataset(images, torch.arange(24) % 3), batch_size=12)

    val_dataloader = search_dataloader = train_dataloader


def all_callbacks() -> list[Any]:
    """The four, as they come together."""
    settings = CompressSettings(
        schedule=_SCHEDULE,
        search=EvolutionSearch(num_candidates=3, calibration_samples=24, search_samples=24),
        channels=ChannelRules(multiple=1),
        metric="val/loss",
        max_drop=9.0,
        quantize=["int8", "int4"],
        quantize_epochs=1,
    )
    budget = ModelBudget(macs="70%", size_bytes="40%")
    training = TrainingBudget(wall_clock_s=3600, flops=1e15)
    return compress_to(budget, settings=settings, training=training)


def fit(folder: Path, callbacks: list[Any], checkpoint: Path | None = None) -> pl.Trainer:
    """A short fit through warm-up, two steps, recovery and quantisation; saved in each epoch."""
    saving = ModelCheckpoint(folder / "saved", filename="{epoch}", save_top_k=-1)
    trainer = pl.Trainer(
        max_epochs=_SCHEDULE.end_epoch + 2,  # BudgetStopping ends it one epoch earlier
        accelerator="cpu",
        callbacks=[*callbacks, *([saving] if checkpoint is None else [])],
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=checkpoint is None,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    with redirect_stderr(StringIO()):  # the bar of the search
        trainer.fit(_Fit(), datamodule=_Data(), ckpt_path=checkpoint, weights_only=True)
    return trainer


def checkpoints() -> list[dict[str, Any]]:
    """What a fit saved at the end of each of its epochs but the last."""
    return copy.deepcopy(_saved())


@cache
def _saved() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as scratch:
        fit(Path(scratch), all_callbacks())
        files = sorted((Path(scratch) / "saved").glob("*.ckpt"))
        saved = [torch.load(file, weights_only=True) for file in files][:-1]
    for checkpoint in saved:  # what wrote them is not there when they are gone on with
        states = checkpoint["callbacks"]
        checkpoint["callbacks"] = {
            name: state for name, state in states.items() if "ModelCheckpoint" not in name
        }
    return saved


def callback_state(random: Random, folder: Path) -> None:
    """A checkpoint in which the state of a callback, or the lineage, is another one."""
    checkpoint = random.choice(checkpoints())
    states = checkpoint["callbacks"]
    name = random.choice([CHECKPOINT_KEY, *states])
    holder, other = checkpoint, random.choice(checkpoints())
    if name != CHECKPOINT_KEY:
        holder, other = states, other["callbacks"]
    kind = random.randrange(8)
    if kind == 0:
        holder[name] = other[name]
    elif kind == 1:
        holder[name] = odd_value(random)
    else:
        holder[name] = damaged(holder[name], random)
    go_on(checkpoint, folder)


def go_on(checkpoint: dict[str, Any], folder: Path) -> None:
    """Fit from a checkpoint to the end, and raise unless what the fit tells of itself is so."""
    path = folder / "changed.ckpt"
    torch.save(checkpoint, path)
    callbacks = all_callbacks()
    with _only_errors_logged():
        trainer = fit(folder, callbacks, path)
        trainer.save_checkpoint(folder / "end.ckpt")
    _check(trainer, callbacks, folder / "end.ckpt")


@contextmanager
def _only_errors_logged() -> Iterator[None]:
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _check(trainer: pl.Trainer, callbacks: list[Any], end: Path) -> None:
    monitor, pruning, _, stopping = callbacks
    network = trainer.lightning_module.network
    for name, (_, width) in pruning.widths.items():
        layer = network.get_submodule(name)
        found = getattr(layer, "out_channels", None) or getattr(layer, "out_features", None)
        if found != width:
            raise SilentError(f"{name} has {found} channels, and {width} are told")
    spend = monitor.update_spend().to_dict()
    if not all(math.isfinite(amount) and amount >= 0 for amount in spend.values()):
        raise SilentError(f"a spend of {spend}")
    if not isinstance(stopping.stop_reason, str | None):
        raise SilentError(f"stopped for {stopping.stop_reason!r}")
    epochs = [row["epoch"] for row in monitor.history]
    if not epochs or epochs != sorted(set(epochs)) or not all(type(each) is int for each in epochs):
        raise SilentError(f"a history of the epochs {epochs}")
    json.dumps(monitor.history, allow_nan=False)
    fresh = load_compressed(_Fit().network, end)
    if lineage_to_list(lineage_of(fresh)) != lineage_to_list(lineage_of(network)):
        raise SilentError("another lineage was saved")
    if not all(torch.isfinite(value).all() for value in network.state_dict().values()):
        raise SilentError("weights that are no numbers")


SUBJECTS = (Subject(name="callback states", hand_in=callback_state, weight=0.3),)
