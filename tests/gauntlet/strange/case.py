"""One awkward network: how it is built, what it takes, and what is refused of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

STAGES = ("measure", "prune", "quantise", "export", "resume")
BATCH = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """An awkward network of the corpus.

    Args:
        build: Makes it, the same each time after ``torch.manual_seed``.
        example: Makes a batch of :data:`BATCH` samples.
        refused: What the refusal of each stage says, as a pattern; stages that are not named pass.
        noise: Largest error of the quantised outputs, as a share of the outputs' size.
        in_fit: Whether it can be trained at all.
    """

    build: Callable[[], nn.Module]
    example: Callable[[], Any]
    refused: Mapping[str, str] = field(default_factory=dict)
    noise: float = 0.1
    in_fit: bool = True


def drawn(*shape: int, seed: int = 1) -> torch.Tensor:
    """A batch of normal values [BATCH, *shape]."""
    return torch.randn(BATCH, *shape, generator=torch.Generator().manual_seed(seed))


def image() -> torch.Tensor:
    """A batch of small images [BATCH, 3, 8, 8]."""
    return drawn(3, 8, 8)


def tokens() -> torch.Tensor:
    """A batch of sequences [BATCH, 5, 8]."""
    return drawn(5, 8)


def row() -> torch.Tensor:
    """A batch of feature vectors [BATCH, 8]."""
    return drawn(8)


def head(channels: int) -> list[nn.Module]:
    """The end of a classifier of images."""
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 3)]
