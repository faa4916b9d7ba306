"""The median of samples, and an interval for it that assumes no distribution."""

import itertools
import math
import statistics
from collections.abc import Sequence

CONFIDENCE = 0.95
NUM_BATCHES = 6
"""Batches that the samples of one measurement are cut into: the fewest that make an interval."""


def median_interval(
    values: Sequence[float], confidence: float = CONFIDENCE
) -> tuple[float, float] | None:
    """Two of the sorted ``values`` between which their distribution's median lies.

    Each value is below the median with a chance of one half, so how many are is binomial, whatever
    the distribution. The values must be independent of each other: see :func:`batch_medians`.

    Returns:
        The narrowest symmetric pair of order statistics that holds the median with at least
        ``confidence``; ``None`` where even smallest and largest do not (fewer than 6 values at
        95 %).

    >>> median_interval([1, 2, 3, 4, 5, 6]), median_interval([1, 2, 3, 4, 5])
    ((1, 6), None)

    Reference:
        David and Nagaraja, "Order Statistics", 2003, section 7.1.
    """
    rank = _lower_rank(len(values), confidence)
    if rank == 0:
        return None
    ordered = sorted(values)
    return ordered[rank - 1], ordered[-rank]


def batch_medians(samples: Sequence[float], num_batches: int = NUM_BATCHES) -> list[float]:
    """The medians of consecutive samples, cut into at most ``num_batches`` equal parts.

    What is measured in a row is alike: a busy neighbour slows many calls at a time, and an
    interval from single calls would be far too narrow. The fewer the batches, the longer they are,
    and the less one tells of the next.

    >>> batch_medians([1, 2, 9, 4, 5, 6], num_batches=2)
    [2, 5]
    """
    num_batches = min(num_batches, len(samples))
    cuts = [index * len(samples) // num_batches for index in range(num_batches + 1)]
    return [statistics.median(samples[start:end]) for start, end in itertools.pairwise(cuts)]


def _lower_rank(num_values: int, confidence: float) -> int:
    """The largest k for which the k smallest and k largest values may be left out."""
    tail = (1 - confidence) / 2 * 2**num_values
    below, rank = 0, 0
    while rank <= num_values // 2:
        below += math.comb(num_values, rank)
        if below > tail:
            break
        rank += 1
    return rank
