"""Labels of the tensors of one forward pass, and what operators in general do to them."""

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from lightning_cost.cost.storage import storage_key
from lightning_cost.pruning.structure.labels import FIXED, Links, reshaped, varying


class FeatureMaps:
    """The label arrays of every tensor that is alive.

    A tensor may have several, as a weight has for its outputs and for its inputs; an element goes
    if one of its labels does. A dimension of more than one position that no array varies along
    holds something else than channels.

    Args:
        links: Where ties are written down.

    Attributes:
        place: The module that runs.
        module: Its name.
        grouped: The weight of each grouped convolution that ran, and the labels of its inputs.
        wanted: Labels along which weights were summed over.
    """

    def __init__(self, links: Links) -> None:
        self.links = links
        self.place = ""
        self.module = ""
        self.grouped: list[tuple[Tensor, Tensor]] = []
        self.wanted: list[Tensor] = []
        self._arrays = WeakTensorKeyDictionary()
        self._weights: set[Hashable] = set()
        self._used: set[Hashable] = set()
        self._staying_if_read = WeakTensorKeyDictionary()

    def of(self, tensor: Any) -> list[Tensor]:
        """The label arrays of ``tensor``; none if it is not a tensor."""
        is_known = isinstance(tensor, Tensor) and tensor in self._arrays
        return list(self._arrays[tensor]) if is_known else []

    def set(self, tensor: Any, arrays: Iterable[Tensor]) -> None:
        """Give ``tensor`` label arrays, those without labels left out."""
        kept = [labels for labels in arrays if varying(labels)]
        if isinstance(tensor, Tensor):
            if kept:
                self._arrays[tensor] = kept
            elif tensor in self._arrays:
                del self._arrays[tensor]

    def is_weight(self, tensor: Tensor) -> bool:
        """Whether ``tensor`` is a view of what :meth:`label_all` was given."""
        return storage_key(tensor) in self._weights

    def note_used(self, tensors: Iterable[Tensor]) -> None:
        """Something has read ``tensors``."""
        for tensor in tensors:
            self._used.add(storage_key(tensor))
            if tensor in self._staying_if_read:
                for labels, reason in self._staying_if_read[tensor]:
                    self.links.pin(labels, reason)
                del self._staying_if_read[tensor]

    def are_all_weights_used(self) -> bool:
        """Whether every tensor that :meth:`label_all` was given has been read."""
        return self._weights <= self._used

    def label_constant(self, tensor: Tensor) -> None:
        """New labels along each dimension of a tensor whose size follows from others'."""
        arrays = [
            along(self.links.fresh(size), dim, tensor.dim())
            for dim, size in enumerate(tensor.shape)
            if size > 1
        ]
        self.set(tensor, arrays)

    def label_all(self, tensor: Tensor, dims: Iterable[int]) -> list[Tensor]:
        """New labels along each of ``dims``, one array [size] for each that has any."""
        arrays, found = [], []
        for dim in dims:
            size = tensor.shape[dim]
            if size > 1:
                found.append(self.links.fresh(size))
                arrays.append(along(found[-1], dim, tensor.dim()))
        self.set(tensor, arrays)
        self._weights.add(storage_key(tensor))
        return found

    def pin(self, arrays: Iterable[Tensor], what: str) -> None:
        """Labels stay, since ``what`` happens to them where the network is now."""
        for labels in arrays:
            self.links.pin(labels, self._told(what))

    def pin_if_read(self, tensor: Tensor, arrays: Iterable[Tensor], what: str) -> None:
        """As :meth:`pin`, unless nothing ever reads ``tensor``."""
        self._staying_if_read[tensor] = [(labels, self._told(what)) for labels in arrays]

    def _told(self, what: str) -> str:
        return f"its channels reach {self.place} ({what})"

    def met(self, tensors: Sequence[Tensor], shape: Sequence[int], what: str) -> list[Tensor]:
        """Labels of what is computed, element by element, of ``tensors`` broadcast to ``shape``."""
        entries = []
        for tensor in tensors:
            lead = (1,) * (len(shape) - tensor.dim())
            arrays = [labels.reshape(lead + labels.shape) for labels in self.of(tensor)]
            entries.append(((*lead, *tensor.shape), arrays))
        return self.merged(entries, what)

    def merged(
        self, entries: Sequence[tuple[Sequence[int], Sequence[Tensor]]], what: str
    ) -> list[Tensor]:
        """Labels of what is made of tensors of equally many dimensions, given as shape and labels.

        Labels along the same dimension go together.
        """
        found: list[Tensor] = []
        for place, (_, arrays) in enumerate(entries):
            others = [entry for other, entry in enumerate(entries) if other != place]
            for each in arrays:
                labels = self._where_others_lack_labels(each, others, what)
                dims = set(varying(labels))
                for _, later in entries[place + 1 :]:
                    for other in later:
                        if dims & set(varying(other)):
                            self.links.tie(labels, other)
                if not any(dims <= set(varying(one)) for one in found):
                    found = [one for one in found if not set(varying(one)) <= dims]
                    found.append(labels)
        return found

    def _where_others_lack_labels(
        self, labels: Tensor, others: Sequence[tuple[Sequence[int], Sequence[Tensor]]], what: str
    ) -> Tensor:
        """Labels that go together along dimensions of which others have positions, but no labels.

        They stay where that are all of their dimensions.
        """
        dims = set(varying(labels))
        lacking = set()
        for shape, arrays in others:
            labelled = {dim for other in arrays for dim in varying(other)}
            lacking |= {dim for dim in dims if shape[dim] > 1 and dim not in labelled}
        if not lacking:
            return labels
        if lacking == dims:
            self.pin([labels], f"{what} with values that have no channels")
            return labels
        return self.links.tie_along(labels, lacking)

    def mixed(self, arrays: Iterable[Tensor], dims: Iterable[int], what: str) -> list[Tensor]:
        """Labels where all positions along ``dims`` depend on each other from now on.

        Those that vary along other dimensions too go together along ``dims``, as heads do; those
        that do not have to stay.
        """
        dims = set(dims)
        result = []
        for labels in arrays:
            along = dims & set(varying(labels))
            if not along:
                result.append(labels)
            elif along == set(varying(labels)):
                self.pin([labels], what)
            else:
                result.append(self.links.tie_along(labels, along))
        return result

    def reshaped(
        self, arrays: Iterable[Tensor], old: Sequence[int], new: Sequence[int]
    ) -> list[Tensor]:
        """Labels after a reshape."""
        result = []
        for labels in arrays:
            found, parts = reshaped(labels, old, new)
            result.append(found)
            for dims in parts:
                several = [dim for dim in dims if found.shape[dim] > 1]
                if len(several) > 1:
                    self._see_as_grids(found, several)
        return result

    def split(self, arrays: Iterable[Tensor], dim: int, num_parts: int) -> None:
        """Positions along ``dim`` are taken apart into parts of equal size, which they stay."""
        for labels in arrays:
            if labels.shape[dim] > 1:
                grid = labels.reshape(*labels.shape[:dim], num_parts, -1, *labels.shape[dim + 1 :])
                self._see_as_grids(grid, [dim, dim + 1], fixed=dim + 1)

    def _see_as_grids(self, labels: Tensor, dims: Sequence[int], fixed: int | None = None) -> None:
        """Along ``dims``; one grid for each position along the other dimensions."""
        sizes = [labels.shape[dim] for dim in dims]
        grids = labels.movedim(tuple(dims), tuple(range(-len(dims), 0))).reshape(-1, *sizes)
        for grid in grids:
            self.links.see_as_grid(
                grid, None if fixed is None else dims.index(fixed), module=self.module
            )

    def joined(self, tensors: Sequence[Tensor], dim: int, what: str) -> list[Tensor]:
        """Labels of the concatenation of ``tensors`` along ``dim``."""
        others, pieces = [], []
        for tensor in tensors:
            arrays = self.of(tensor)
            along = [labels for labels in arrays if labels.shape[dim] > 1]
            shape = [*tensor.shape]
            shape[dim] = 1
            others.append((shape, [labels for labels in arrays if labels.shape[dim] == 1]))
            for labels in along[1:]:
                self.pin([labels], what)
            fixed = torch.full([1] * tensor.dim(), FIXED)
            piece = along[0] if along else fixed
            shape = [*piece.shape]
            shape[dim] = tensor.shape[dim]
            pieces.append((piece.expand(shape), bool(along)))
        result = self.merged(others, what)
        if any(is_labelled for _, is_labelled in pieces):
            common = [max(piece.shape[d] for piece, _ in pieces) for d in range(tensors[0].dim())]
            wide = []
            for piece, _ in pieces:
                shape = [*common]
                shape[dim] = piece.shape[dim]
                wide.append(piece.expand(shape))
            result.append(torch.cat(wide, dim))
        return result


def along(labels: Tensor, dim: int, num_dims: int) -> Tensor:
    """Labels [size] as the labels of a tensor of ``num_dims`` dimensions along ``dim``."""
    return labels.reshape([-1 if place == dim % num_dims else 1 for place in range(num_dims)])
