"""One awkward network: how it is built, and what it takes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

BATCH = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """An awkward network of the corpus.

    Args:
        build: Makes it, the same each time after ``torch.manual_seed``.
        example: Makes a batch of :data:`BATCH` samples.
        noise: Largest error of the quantised outputs, as a share of the outputs' size.
        in_fit: Whether it can be trained at all.
        is_random: Whether its outputs are drawn anew in each pass, so that runtimes cannot agree.
    """

    build: Callable[[], nn.Module]
    example: Callable[[], Any]
    noise: float = 0.1
    in_fit: bool = True
    is_random: bool = False


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
