"""Rounding to any set of levels, and the scale that makes its error least."""

from bisect import bisect_left
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_cost.quantization.schemes.filters import largest_of, per_filter

# what is tried, in units of largest weight over largest level: clipping below 1, and up to 2, as
# powers of two repeat themselves in every octave
_RATIOS = tuple(0.25 + 0.035 * step for step in range(51))
_REFITS = 3


@torch.no_grad()
def nearest_levels(weight: Tensor, scale: Tensor, levels: tuple[int, ...]) -> Tensor:
    """The nearest levels to ``weight`` over ``scale``, as int8 of the same shape.

    Halfway between two levels the lower one is taken, whatever the sign. In memory the integers lie
    as the weight does.

    Args:
        weight: Of shape [filters, ...].
        scale: Of shape [filters].
        levels: Magnitudes, ascending from 0.

    >>> nearest_levels(torch.tensor([[5.9, -6.1, 0.2]]), torch.ones(1), (0, 1, 2, 4, 8)).tolist()
    [[4, -8, 0]]
    """
    ratio = weight.detach().float() / per_filter(scale, weight)
    table = torch.tensor(_by_half_steps(levels), device=ratio.device)
    # what is not a number has to have a place in the table too
    steps = (2 * ratio).abs_().ceil_().nan_to_num_(0.0).clamp_(max=len(table) - 1).to(torch.int32)
    # in the order of memory, as a weight in another layout than its gradient slows training down
    magnitudes = table.index_select(0, steps.as_strided((steps.numel(),), (1,)))
    return magnitudes.as_strided(ratio.shape, ratio.stride()) * ratio.sign().to(torch.int8)


@torch.no_grad()
def fitted_scale(weight: Tensor, levels: tuple[int, ...], previous: Tensor | None = None) -> Tensor:
    """The scale of each filter with the least squared error of :func:`nearest_levels`.

    Without ``previous`` a row of scales is tried and the best one refined; with it, it alone is
    refined, see :func:`refitted_scales`.

    Args:
        weight: Of shape [filters, ...].
        levels: Magnitudes, ascending from 0.
        previous: Of shape [filters].

    Returns:
        Positive, of shape [filters], float32.
    """
    if previous is not None:
        return refitted_scales(weight, [levels], [previous])[0]
    largest, unit = _in_units_of_largest(weight)
    best = torch.full_like(largest, 1 / levels[-1])
    least = torch.full_like(largest, torch.inf, dtype=torch.float64)
    errors = _SquaredErrors(unit, levels)
    for ratio in _RATIOS:
        scale = ratio / levels[-1]
        error = errors.of(scale)
        best, least = torch.where(error < least, scale, best), torch.minimum(error, least)
    for _ in range(_REFITS):
        best = _refitted(unit, best, levels)
    return best * largest


@torch.no_grad()
def refitted_scales(
    weight: Tensor, levels: Sequence[tuple[int, ...]], previous: Sequence[Tensor] | Tensor
) -> list[Tensor]:
    """For each of several sets of levels, the best scale for those that its old scale rounds to.

    Args:
        weight: Of shape [filters, ...].
        levels: Of each set the magnitudes, ascending from 0.
        previous: For each set, of shape [filters].

    Returns:
        For each set, positive, of shape [filters], float32.
    """
    largest, unit = _in_units_of_largest(weight)
    return [
        # a scale of twice the largest weight, as is left of a filter that has shrunk, is too coarse
        # for all of them; and the quotient may overflow
        _refitted(unit, (old / largest).clamp_max(2), each) * largest
        for each, old in zip(levels, previous, strict=True)
    ]


def _in_units_of_largest(weight: Tensor) -> tuple[Tensor, Tensor]:
    """The largest magnitude of each filter, and the weight in units of it: squares overflow."""
    largest = largest_of(weight)
    return largest, weight.detach().float() / per_filter(largest, weight)


def _refitted(weight: Tensor, scale: Tensor, levels: tuple[int, ...]) -> Tensor:
    """The least-squares scale for the levels that ``scale`` rounds to."""
    codes = nearest_levels(weight, scale, levels).float().flatten(1)
    flat = weight.detach().float().flatten(1)
    length = codes.square().sum(1)
    refitted = (codes * flat).sum(1) / length.clamp_min(1)
    # where all round to zero there is nothing to fit: a finer grid, next time
    refitted = torch.where(length > 0, refitted, scale / 2)
    return refitted.clamp_min(torch.finfo(torch.float32).eps)


class _SquaredErrors:
    """The squared error of :func:`nearest_levels` for many scales.

    Sorted once, the magnitudes that go to one level lie side by side, so that a scale needs the
    places of its midpoints among them and not another look at each weight.
    """

    def __init__(self, weight: Tensor, levels: tuple[int, ...]) -> None:
        # in double precision, as it is differences of long sums that are compared
        self._sorted = weight.abs().flatten(1).double().sort(1).values
        start = self._sorted.new_zeros(len(weight), 1)
        self._sums = torch.cat([start, self._sorted.cumsum(1)], 1)
        self._levels = torch.tensor(levels, dtype=torch.float64, device=weight.device)
        self._midpoints = (self._levels[1:] + self._levels[:-1]) / 2

    def of(self, scale: float) -> Tensor:
        """That of each filter, but for the sum of its squares, which no scale changes."""
        num_filters, size = self._sorted.shape
        bounds = (self._midpoints * scale).expand(num_filters, -1).contiguous()
        ends = torch.searchsorted(self._sorted, bounds, right=True)
        edges = F.pad(F.pad(ends, (1, 0)), (0, 1), value=size)
        values = self._levels * scale
        counts, sums = edges.diff(dim=1), self._sums.gather(1, edges).diff(dim=1)
        error: Tensor = (values * (values * counts - 2 * sums)).sum(1)
        return error


@cache
def _by_half_steps(levels: tuple[int, ...]) -> npt.NDArray[Any]:
    """The nearest level to a magnitude, by twice the magnitude, rounded up, as int8.

    Levels are whole numbers, so that halfway between two is a multiple of a half: magnitudes that
    are rounded up to the same half go to one level. The last entry is for all beyond.
    """
    midpoints = [(low + high) / 2 for low, high in pairwise(levels)]
    halves = range(2 * levels[-1] + 1)
    return np.array([levels[bisect_left(midpoints, half / 2)] for half in halves], dtype=np.int8)
