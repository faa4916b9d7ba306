"""Which channel each element of a tensor belongs to, as arrays of labels, and how labels are tied.

A label is a number for one position along one dimension of a parameter, or of a feature map. A
label array has the dimensions of its tensor, with size 1 along those where labels do not vary.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

Ints = npt.NDArray[np.int64]
FIXED = 0
"""The label of positions that stay whatever is removed."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Labels of one dimension that code sees as several: heads and what is in them, say.

    What is left after a removal must be a full grid again. So channels may vary along one
    dimension of the grid only.

    Args:
        labels: [*sizes].
        dim: That dimension, where the code leaves no choice; else ``None``.
        module: Which module's code it is.
    """

    labels: Tensor
    dim: int | None
    module: str


@dataclass(frozen=True, slots=True)
class Pinned:
    """Labels that stay, and why."""

    labels: Tensor
    reason: str


class Links:
    """Labels, which of them go together, and which stay."""

    def __init__(self) -> None:
        self._num_labels = 1
        self._ties: list[tuple[Tensor, Tensor]] = []
        self._pinned: list[Pinned] = []
        self.grids: list[Grid] = []
        self._read: list[Tensor] = []

    def fresh(self, size: int) -> Tensor:
        """New labels [size]."""
        labels = torch.arange(self._num_labels, self._num_labels + size)
        self._num_labels += size
        return labels

    def tie(self, first: Tensor, second: Tensor) -> None:
        """Labels that meet when both are broadcast go together."""
        first, second = first + torch.zeros_like(second), second + torch.zeros_like(first)
        self._ties.append((first.flatten(), second.flatten()))

    def tie_along(self, labels: Tensor, dims: Iterable[int]) -> Tensor:
        """All labels along ``dims`` go together; returns one for each, with size 1 there."""
        reduced = labels
        for dim in dims:
            reduced = reduced.narrow(dim, 0, 1)
        self.tie(labels, reduced)
        return reduced

    def pin(self, labels: Tensor, reason: str) -> None:
        """These labels stay."""
        self._pinned.append(Pinned(labels.flatten(), reason))

    def see_as_grid(self, labels: Tensor, dim: int | None = None, module: str = "") -> None:
        """Code of ``module`` sees these as a grid that may only get narrower along ``dim``."""
        self.grids.append(Grid(labels, dim, module))

    def mark_read(self, labels: Tensor) -> None:
        """Something is computed of these that no longer has their channels."""
        self._read.append(labels.flatten())

    def units(self) -> "Units":
        """Which labels are removed together."""
        unit_of = self._components()
        for grid in self.grids:
            labels = unit_of[grid.labels.numpy()]
            dim = _best_dim(labels) if grid.dim is None else grid.dim
            others = [place for place in range(labels.ndim) if place != dim]
            self.tie_along(grid.labels, others)
        unit_of = self._components()
        reasons: dict[int, str] = {int(unit_of[FIXED]): "its channels meet others that stay"}
        for pinned in self._pinned:
            for unit in np.unique(unit_of[pinned.labels.numpy()]).tolist():
                reasons.setdefault(unit, pinned.reason)
        read = np.concatenate([np.zeros(0, np.int64), *(labels.numpy() for labels in self._read)])
        return Units(of=unit_of, reasons=reasons, read=frozenset(unit_of[read].tolist()))

    def _components(self) -> Ints:
        empty = np.zeros(0, np.int64)
        rows = np.concatenate([empty, *(first.numpy() for first, _ in self._ties)])
        columns = np.concatenate([empty, *(second.numpy() for _, second in self._ties)])
        return _components(rows, columns, self._num_labels)


@dataclass(frozen=True, slots=True)
class Units:
    """Labels that are removed together, or not at all.

    Args:
        of: The unit of each label, [num_labels].
        reasons: Why a unit stays, by unit.
        read: Units that something is computed of.
    """

    of: Ints
    reasons: dict[int, str]
    read: frozenset[int]


def _components(rows: Ints, columns: Ints, size: int) -> Ints:
    graph = coo_matrix((np.ones(len(rows), np.int8), (rows, columns)), shape=(size, size))
    found: Ints = connected_components(graph, directed=False)[1].astype(np.int64)
    return found


def _best_dim(units: Ints) -> int:
    """The dimension of a grid that leaves most units apart; the last one of equals."""
    numbers = np.unique(units, return_inverse=True)[1].reshape(units.shape)
    num_units = int(numbers.max()) + 1
    best, most = units.ndim - 1, 0
    for dim in reversed(range(units.ndim)):
        places = np.indices(units.shape)[dim]
        size = num_units + units.shape[dim]
        components = _components(numbers.ravel(), num_units + places.ravel(), size)
        num_components = len(np.unique(components))
        if num_components > most:
            best, most = dim, num_components
    return best


def varying(labels: Tensor) -> tuple[int, ...]:
    """Dimensions along which labels vary."""
    return tuple(dim for dim, size in enumerate(labels.shape) if size > 1)


def without_equal(labels: Tensor) -> Tensor:
    """Labels with size 1 along dimensions where all slices are the same."""
    for dim in varying(labels):
        first = labels.narrow(dim, 0, 1)
        if bool((labels == first).all()):
            labels = first
    return labels


def compressed(expanded: Tensor) -> Tensor:
    """Labels with size 1 along dimensions without a stride, which none vary along."""
    for dim, (size, stride) in enumerate(zip(expanded.shape, expanded.stride(), strict=True)):
        if size > 1 and stride == 0:
            expanded = expanded.narrow(dim, 0, 1)
    return expanded


def reshaped(
    labels: Tensor, old: Sequence[int], new: Sequence[int]
) -> tuple[Tensor, list[tuple[int, ...]]]:
    """Labels of a tensor of shape ``old`` after a reshape to ``new``.

    Returns:
        The labels, and the sets of new dimensions that come from the same old ones.
    """
    before, after = [1] * len(old), [1] * len(new)
    parts = []
    for olds, news in _segments(old, new):
        if any(labels.shape[dim] > 1 for dim in olds):
            for dim in olds:
                before[dim] = old[dim]
            for dim in news:
                after[dim] = new[dim]
        parts.append(news)
    return without_equal(labels.expand(before).reshape(after)), parts


def _segments(
    old: Sequence[int], new: Sequence[int]
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The smallest runs of old and new dimensions of equally many elements."""
    segments = []
    i = j = 0
    while i < len(old) or j < len(new):
        start_i, start_j = i, j
        i, j = min(i + 1, len(old)), min(j + 1, len(new))
        left, right = math.prod(old[start_i:i]), math.prod(new[start_j:j])
        while left != right and (i < len(old) or j < len(new)):
            if j == len(new) or (left < right and i < len(old)):
                left *= old[i]
                i += 1
            else:
                right *= new[j]
                j += 1
        segments.append((tuple(range(start_i, i)), tuple(range(start_j, j))))
    return segments
