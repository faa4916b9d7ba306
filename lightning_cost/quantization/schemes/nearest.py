"""Rounding to any set of levels, and the scale that makes its error least."""

import torch
from torch import Tensor

from lightning_cost.quantization.schemes.filters import largest_of, per_filter

# largest magnitude over largest level, in what is tried to begin with
_RATIOS = tuple(0.3 + 0.05 * step for step in range(17))
_REFITS = 3


@torch.no_grad()
def nearest_levels(weight: Tensor, scale: Tensor, levels: tuple[int, ...]) -> Tensor:
    """The nearest levels to ``weight`` over ``scale``, as int8 of the same shape.

    Halfway between two levels the lower one is taken, whatever the sign.

    Args:
        weight: Of shape [filters, ...].
        scale: Of shape [filters].
        levels: Magnitudes, ascending from 0.

    >>> nearest_levels(torch.tensor([[5.9, -6.1, 0.2]]), torch.ones(1), (0, 1, 2, 4, 8)).tolist()
    [[4, -8, 0]]
    """
    ratio = weight.detach().float() / per_filter(scale, weight)
    values, midpoints = _grid(levels, ratio.device)
    return values[torch.bucketize(ratio.abs(), midpoints)] * ratio.sign().to(torch.int8)


@torch.no_grad()
def fitted_scale(weight: Tensor, levels: tuple[int, ...], previous: Tensor | None = None) -> Tensor:
    """The scale of each filter with the least squared error of :func:`nearest_levels`.

    Without ``previous`` a row of scales is tried and the best one refined; with it, it alone is
    refined, once: the best scale for the levels that it gives. A filter of zeros keeps a small one.

    Args:
        weight: Of shape [filters, ...].
        levels: Magnitudes, ascending from 0.
        previous: Of shape [filters].

    Returns:
        Positive, of shape [filters], float32.
    """
    if previous is not None:
        return _refitted(weight, previous, levels)
    largest = largest_of(weight) / levels[-1]
    best, least = largest, torch.full_like(largest, torch.inf)
    for ratio in _RATIOS:
        scale = largest * ratio
        for _ in range(_REFITS):
            scale = _refitted(weight, scale, levels)
        error = _squared_error(weight, scale, levels)
        best, least = torch.where(error < least, scale, best), torch.minimum(error, least)
    return best


def _refitted(weight: Tensor, scale: Tensor, levels: tuple[int, ...]) -> Tensor:
    """The least-squares scale for the levels that ``scale`` rounds to."""
    codes = nearest_levels(weight, scale, levels).float().flatten(1)
    flat = weight.detach().float().flatten(1)
    length = codes.square().sum(1)
    refitted = (codes * flat).sum(1) / length.clamp_min(1)
    # where all round to zero there is nothing to fit: a finer grid, next time
    refitted = torch.where(length > 0, refitted, scale / 2)
    return refitted.clamp_min(torch.finfo(torch.float32).eps)


def _squared_error(weight: Tensor, scale: Tensor, levels: tuple[int, ...]) -> Tensor:
    rounded = nearest_levels(weight, scale, levels) * per_filter(scale, weight)
    return (rounded - weight.detach().float()).flatten(1).square().sum(1)


def _grid(levels: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    magnitudes = torch.tensor(levels, dtype=torch.float32, device=device)
    midpoints = (magnitudes[1:] + magnitudes[:-1]) / 2
    return magnitudes.to(torch.int8), midpoints
