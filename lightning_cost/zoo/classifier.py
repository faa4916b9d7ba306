"""The LightningModule that the command line trains: an image classifier with one LR arc a phase."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy
from typing_extensions import override

WARMUP_RATIO = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class LearningPhase:
    """A stretch of training with its own rise and cosine fall of the learning rate.

    Args:
        epochs: Length.
        peak: Highest learning rate, reached after a tenth of the phase.
    """

    epochs: float
    peak: float


def learning_rate_at(epoch: float, phases: Sequence[LearningPhase]) -> float:
    """The learning rate after ``epoch`` epochs, fractions included.

    Each phase rises linearly over its first tenth and then follows half a cosine down to zero, so
    that every phase ends with an annealed network.

    >>> phases = [LearningPhase(epochs=10, peak=0.1), LearningPhase(epochs=5, peak=0.02)]
    >>> [round(learning_rate_at(epoch, phases), 4) for epoch in (1, 5.5, 10.5, 15)]
    [0.1, 0.05, 0.02, 0.0]
    """
    start = 0.0
    for phase in phases:
        if epoch < start + phase.epochs:
            progress = (epoch - start) / phase.epochs
            if progress < WARMUP_RATIO:
                return phase.peak * max(progress / WARMUP_RATIO, 1e-3)
            falling = (progress - WARMUP_RATIO) / (1 - WARMUP_RATIO)
            return phase.peak * (1 + math.cos(math.pi * falling)) / 2
        start += phase.epochs
    return 0.0


class ImageClassifier(pl.LightningModule):
    """Cross-entropy training of an image classifier with SGD and Nesterov momentum.

    Args:
        network: Maps images (batch, channels, height, width) to logits (batch, classes).
        num_classes: Number of classes.
        phases: The learning rate over the run, see :func:`learning_rate_at`.
        momentum: Of SGD.
        weight_decay: L2 penalty on all parameters.
        label_smoothing: Share of the target that is spread over all classes.
        channels_last: Train in the channels-last memory format, which convolutions on CPUs and
            tensor cores prefer.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        num_classes: int,
        phases: Sequence[LearningPhase],
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        label_smoothing: float = 0.0,
        channels_last: bool = True,
    ) -> None:
        super().__init__()
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.network = network.to(memory_format=self.memory_format)  # type: ignore[call-overload]
        self.phases = tuple(phases)
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.loss = nn.CrossEntropyLoss(label_smoothing=label_smoothing)
        self.val_accuracy = MulticlassAccuracy(num_classes, average="micro")
        self.test_accuracy = MulticlassAccuracy(num_classes, average="micro")

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, classes) of images (batch, channels, height, width)."""
        logits: Tensor = self.network(images.contiguous(memory_format=self.memory_format))
        return logits

    @override
    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        loss: Tensor = self.loss(self(images), labels)
        self.log("train/loss", loss, prog_bar=True, on_step=False, on_epoch=True)
        return loss

    @override
    def validation_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:
        images, labels = batch
        logits = self(images)
        self.val_accuracy(logits, labels)
        self.log("val/accuracy", self.val_accuracy, prog_bar=True)
        self.log("val/loss", nn.functional.cross_entropy(logits, labels))

    @override
    def test_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:
        images, labels = batch
        self.test_accuracy(self(images), labels)
        self.log("test/accuracy", self.test_accuracy)

    @override
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(
            self.parameters(),
            lr=1.0,
            momentum=self.momentum,
            nesterov=self.momentum > 0,
            weight_decay=self.weight_decay,
        )
        num_epochs = self.trainer.max_epochs or sum(phase.epochs for phase in self.phases)
        steps_per_epoch = max(1, self.trainer.estimated_stepping_batches / num_epochs)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_at(step / steps_per_epoch, self.phases)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }
