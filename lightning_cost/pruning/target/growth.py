"""Channels that come back: from a network on a ranking's path to one that fills the limits."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from lightning_cost.pruning.target.path import RemovalPath

Widths: TypeAlias = npt.NDArray[np.int64]
IsWithin: TypeAlias = Callable[[Widths], npt.NDArray[np.bool_]]
"""Which of the widths [N, num_groups] keep some limits, [N]."""

_NUM_STEPS_AHEAD = 2


def largest_on(path: RemovalPath, is_within: IsWithin) -> Widths | None:
    """The widths [num_groups] of the first network on ``path`` that is within, made to fill it.

    One ranking gives one network after another, and between two of them a cost can fall by more
    than a limit has to spare. What is left there is given to single groups: the channels that rank
    highest among the removed come back wherever all limits hold with them, until none do. Groups
    take the widths that the path has, so aligned ones stay aligned; a step of two is tried as
    well, as the next width may be slower than the one after it.

    Returns:
        The widths; ``None`` if no network on the path is within.
    """
    is_kept = is_within(path.widths)
    if not is_kept.any():
        return None
    widths: Widths = path.widths[int(is_kept.argmax())]
    while True:
        rows, ranks = next_widths(path, widths)
        is_better = is_within(rows) if len(rows) else np.zeros(0, dtype=bool)
        if not is_better.any():
            return widths
        widths = rows[is_better][int(ranks[is_better].argmax())]


def next_widths(path: RemovalPath, widths: Widths) -> tuple[Widths, npt.NDArray[np.int64]]:
    """``widths`` [num_groups] with one group made wider, and how high what comes back ranks.

    Returns:
        Rows [N, num_groups] with the next or the next but one of the widths that the path has for
        a group; and for each the last position of the path that still has it: the later a block
        of channels goes, the higher it ranks.
    """
    rows, ranks = [], []
    for group, width in enumerate(widths.tolist()):
        column = path.widths[:, group]
        for wider in np.unique(column[column > width])[:_NUM_STEPS_AHEAD].tolist():
            row = widths.copy()
            row[group] = wider
            rows.append(row)
            ranks.append(int(np.flatnonzero(column >= wider)[-1]))
    shape = (len(rows), path.widths.shape[1])
    return np.array(rows, dtype=np.int64).reshape(shape), np.array(ranks, dtype=np.int64)
