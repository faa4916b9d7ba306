"""The trained network that every method of a benchmark starts from, and how each trains it on."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from results_file import FOLDER
from torch import Tensor, nn

from lightning_cost.cost.macs import count_macs
from lightning_cost.zoo.augmentation import Augmentation
from lightning_cost.zoo.classifier import ImageClassifier, LearningPhase
from lightning_cost.zoo.data import ImageData
from lightning_cost.zoo.mobilenet import mobilenet_v2_small
from lightning_cost.zoo.resnet import resnet20

BATCH_SIZE = 128
BASE_EPOCHS, BASE_PEAK = 8, 0.1
BASES = FOLDER / "pruning" / "bases"
MODELS: dict[str, Callable[..., nn.Module]] = {
    "resnet20": partial(resnet20, width=16),
    "mobilenet_v2_small": partial(mobilenet_v2_small, width=8),
}
HAS_FAST_BF16 = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
FAST_PRECISION = "bf16-mixed" if HAS_FAST_BF16 else "32-true"


@dataclass(frozen=True, kw_only=True)
class Base:
    """A trained network, its data and what it counts."""

    network: nn.Module
    data: ImageData
    example: Tensor
    seed: int

    @property
    def digest(self) -> str:
        """The first digits of a hash of the weights: tells one training from another."""
        state = hashlib.sha256()
        for name, values in self.network.state_dict().items():
            state.update(name.encode() + values.contiguous().numpy().tobytes())
        return state.hexdigest()[:8]

    @property
    def macs(self) -> int:
        """Of the dense network, for one image."""
        return count_macs(self.network, self.example).total


def data_of(name: str, seed: int) -> ImageData:
    data = ImageData(
        name,
        batch_size=BATCH_SIZE,
        seed=seed,
        search_ratio=0.04,
        val_ratio=0.04,
        augmentation=Augmentation(max_shift=2, flips=True),
    )
    data.setup()
    return data


def fine_tuned(
    network: nn.Module,
    data: ImageData,
    *,
    steps: int,
    peak: float,
    callbacks: Sequence[pl.Callback] = (),
    precision: Any = FAST_PRECISION,
) -> nn.Module:
    """``network`` after ``steps`` steps with one arc of the learning rate."""
    num_epochs = epochs_of(steps, data)
    network.train()  # Lightning leaves what is in evaluation mode there
    module = ImageClassifier(
        network,
        num_classes=data.num_classes,
        phases=[LearningPhase(epochs=num_epochs, peak=peak)],
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=num_epochs,
        limit_train_batches=round(steps / num_epochs),
        limit_val_batches=0,
        num_sanity_val_steps=0,
        callbacks=list(callbacks),
        precision=precision,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data)
    return module.network


def epochs_of(steps: int, data: ImageData) -> int:
    """Epochs that hold ``steps`` steps, the last one begun."""
    return -(-steps // len(data.train_dataloader()))


@torch.no_grad()
def accuracy_percent(network: nn.Module, part: Any) -> float:
    network.eval()
    hits = sum(
        int((network(images).argmax(1) == labels).sum())
        for start in range(0, len(part), 1000)
        for images, labels in [part.__getitems__(range(start, min(start + 1000, len(part))))]
    )
    return 100 * hits / len(part)


def base_of(
    name: str, seed: int, *, epochs: int, model: str = "resnet20", folder: Path = BASES
) -> Base:
    """The dense network of a seed: loaded if it was trained before."""
    data = data_of(name, seed)
    pl.seed_everything(seed, verbose=False)
    # laid so, a step takes 1.2 times less (ResNet-20) and 1.7 times less (MobileNetV2-small)
    network = MODELS[model](in_channels=data.in_channels).to(memory_format=torch.channels_last)
    kind = "" if model == "resnet20" else f"{model}_"
    file = folder / f"base_{kind}{name}_{epochs}_epochs_seed{seed}.pt"
    if file.exists():
        network.load_state_dict(torch.load(file, weights_only=True))
    else:
        steps = epochs * len(data.train_dataloader())
        network = fine_tuned(network, data, steps=steps, peak=BASE_PEAK)
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(network.state_dict(), file)
    example = torch.zeros(1, data.in_channels, *data.image_size)
    return Base(network=network.eval(), data=data, example=example, seed=seed)
