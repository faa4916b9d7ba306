"""A small run that goes through every phase in seconds: real digits, all four callbacks."""

from pathlib import Path

import pytorch_lightning as pl
from torch import nn

from lightning_cost.budget.model import ModelBudget
from lightning_cost.pruning.schedule import PruningSchedule
from lightning_cost.pruning.search.evolution import EvolutionSearch
from lightning_cost.pruning.target.channels import ChannelRules
from lightning_cost.recipe.callbacks import compress_to
from lightning_cost.recipe.config import CompressSettings
from lightning_cost.zoo.classifier import ImageClassifier, LearningPhase
from lightning_cost.zoo.data import ImageData
from lightning_cost.zoo.resnet import resnet8

NUM_EPOCHS = 8


def settings(**changes) -> CompressSettings:
    given = {
        "schedule": PruningSchedule(warmup_epochs=2, num_steps=2, recover_epochs=3, shape="linear"),
        "search": EvolutionSearch(num_candidates=6, calibration_samples=128, search_samples=128),
        "channels": ChannelRules(multiple=4),
        "quantize_epochs": 2,
    }
    return CompressSettings(**(given | changes))


def module(width: int = 8) -> ImageClassifier:
    pl.seed_everything(0, verbose=False)
    phases = [LearningPhase(epochs=2, peak=0.1), LearningPhase(epochs=6, peak=0.05)]
    return ImageClassifier(
        resnet8(width=width, in_channels=1), num_classes=10, phases=phases, channels_last=False
    )


def callbacks(macs: str = "50%", **changes) -> list[pl.Callback]:
    return compress_to(ModelBudget(macs=macs), settings=settings(**changes))


def joint_callbacks() -> list[pl.Callback]:
    """A size that channels and bits share."""
    choices = ["int8", "int6", "int4", "int3"]
    return compress_to(ModelBudget(size_bytes="12%"), settings=settings(quantize=choices))


def trainer(folder: Path, given: list[pl.Callback], **changes) -> pl.Trainer:
    options = {
        "max_epochs": NUM_EPOCHS,
        "accelerator": "cpu",
        "devices": 1,
        "callbacks": given,
        "default_root_dir": folder,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "limit_val_batches": 1,
    }
    return pl.Trainer(**(options | changes))


def data() -> ImageData:
    return ImageData("digits", search_ratio=0.1, val_ratio=0.1)


def network_of(given: ImageClassifier) -> nn.Module:
    return given.network
