"""ONNX files of one network at many widths, without exporting it anew for each.

The network is exported at a few widths. Every size in the graph that differs between those files
follows from the layers' sizes, which the caller knows; any other width is then a matter of writing
those sizes into the graph. Weights are drawn at random: they serve measuring, not predicting.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]

_POOL = 4093  # weights repeat after so many values, so that a file packs well
_LARGEST_SHAPE = 64  # an integer tensor of no more entries may hold sizes


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """One size in the graph: ``constant``, or ``factor`` times a size that the caller knows.

    Args:
        constant: The size where it is the same in every file.
        column: Index of the size that it follows; ``None`` for a constant.
        factor: What that size is multiplied by.
    """

    constant: int = 0
    column: int | None = None
    factor: float = 1.0

    def at(self, sizes: Floats) -> Floats:
        """Its values [N] where the known sizes are ``sizes`` [N, num_sizes]."""
        if self.column is None:
            return np.full(len(sizes), float(self.constant))
        return np.round(self.factor * sizes[:, self.column])


class OnnxTemplate:
    """Writes the ONNX graph of a network at any widths.

    Args:
        models: The network exported at several widths, as ``onnx.ModelProto``; the first is the
            one that others are cut from.
        sizes: Sizes of its layers [num_models, num_sizes], by which those of the graph are told.

    Raises:
        ValueError: If the graphs differ in more than sizes, or a size follows from none of
            ``sizes``; names the place.
    """

    def __init__(self, models: Sequence[Any], sizes: Floats) -> None:
        self._sizes = sizes
        graphs = [_unshared(model) for model in models]
        self._model = graphs[0]
        _require_same_operators(graphs)
        self._shapes = [
            tuple(self._size(f"shape of {tensors[0].name}", values) for values in _columns(dims))
            for tensors, dims in _aligned(graphs)
        ]
        self._integers = self._sized_integers(graphs)
        self._attributes = self._sized_attributes(graphs)

    @property
    def model(self) -> Any:
        """The first model, each of its initialisers used once."""
        return self._model

    @property
    def graph(self) -> Any:
        """Its graph."""
        return self._model.graph

    def shape_of(self, initializer: str) -> tuple[Size, ...]:
        """The sizes of an initialiser's dimensions."""
        names = [tensor.name for tensor in self.graph.initializer]
        return self._shapes[names.index(initializer)]

    def at(self, sizes: Floats) -> Any:
        """The model, an ``onnx.ModelProto``, where the known sizes are ``sizes`` [num_sizes]."""
        import onnx

        row = sizes[None, :]
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        for place, shape in enumerate(self._shapes):
            dims = [int(size.at(row)[0]) for size in shape]
            tensor = model.graph.initializer[place]
            if place in self._integers:
                values = [int(size.at(row)[0]) for size in self._integers[place]]
                array = onnx.numpy_helper.to_array(tensor)
                tensor.CopyFrom(_tensor(np.array(values, array.dtype).reshape(dims), tensor.name))
            elif dims != list(tensor.dims):
                tensor.CopyFrom(_tensor(_resized(tensor, dims), tensor.name))
        for (node, attribute), size in self._attributes.items():
            model.graph.node[node].attribute[attribute].i = int(size.at(row)[0])
        return model

    def _size(self, place: str, values: npt.NDArray[np.int64]) -> Size:
        if (values == values[0]).all():
            return Size(constant=int(values[0]))
        with np.errstate(divide="ignore", invalid="ignore"):
            factors = values[:, None] / self._sizes
        is_match = np.isfinite(factors).all(axis=0) & (factors == factors[0]).all(axis=0)
        if not is_match.any():
            raise ValueError(
                "sizes in the exported graph must follow from those of the layers, got "
                f"{values.tolist()} for the {place} where none does; exclude the layers around it"
            )
        column = int(np.argmax(is_match))
        return Size(column=column, factor=float(factors[0, column]))

    def _sized_integers(self, graphs: Sequence[Any]) -> dict[int, list[Size]]:
        """Integer tensors, such as the shape of a reshape, whose values differ between files."""
        import onnx

        found = {}
        for place, (tensors, _) in enumerate(_aligned(graphs)):
            if tensors[0].data_type != onnx.TensorProto.INT64:
                continue
            if max(np.prod(tensor.dims) for tensor in tensors) > _LARGEST_SHAPE:
                _require_constant(tensors)
                continue
            arrays = [onnx.numpy_helper.to_array(tensor).ravel() for tensor in tensors]
            if all(np.array_equal(array, arrays[0]) for array in arrays):
                continue
            found[place] = [
                self._size(f"values of {tensors[0].name}", values) for values in _columns(arrays)
            ]
        return found

    def _sized_attributes(self, graphs: Sequence[Any]) -> dict[tuple[int, int], Size]:
        """Integer attributes, such as the groups of a convolution, that differ between files."""
        found = {}
        for place, nodes in enumerate(zip(*(graph.graph.node for graph in graphs), strict=True)):
            for index, attributes in enumerate(
                zip(*(node.attribute for node in nodes), strict=True)
            ):
                if len({(tuple(each.ints), each.s) for each in attributes}) > 1:
                    raise ValueError(
                        "network must have the same operators at every width, got "
                        f"{attributes[0].name} of {nodes[0].name} that differs; forward must not "
                        "depend on the widths"
                    )
                values = np.array([attribute.i for attribute in attributes])
                if (values != values[0]).any():
                    name = f"{attributes[0].name} of {nodes[0].name}"
                    found[place, index] = self._size(name, values)
        return found


def _unshared(model: Any) -> Any:
    """A copy in which every use of an initialiser has its own.

    The exporter lets tensors of equal values share one, which depends on the widths.
    """
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    del copy.graph.initializer[:]
    del copy.graph.value_info[:]
    uses: dict[str, int] = {}
    for node in copy.graph.node:
        for place, name in enumerate(node.input):
            if name not in tensors:
                continue
            uses[name] = uses.get(name, 0) + 1
            tensor = copy.graph.initializer.add()
            tensor.CopyFrom(tensors[name])
            tensor.name = name if uses[name] == 1 else f"{name}#{uses[name]}"
            node.input[place] = tensor.name
    return copy


def _require_same_operators(graphs: Sequence[Any]) -> None:
    first, *others = (
        [(node.op_type, len(node.input), len(node.attribute)) for node in graph.graph.node]
        for graph in graphs
    )
    for other in others:
        if other != first:
            raise ValueError(
                "network must have the same operators at every width, got graphs of "
                f"{len(first)} and {len(other)} operators; forward must not depend on the widths"
            )


def _require_constant(tensors: Sequence[Any]) -> None:
    """Refuse long integer tensors, such as the indices of a gather, that follow the widths."""
    shapes = [list(tensor.dims) for tensor in tensors]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError(
            "network must not hold long lists of channels, whose values cannot be told at other "
            f"widths, got {tensors[0].name} of shapes {shapes}; exclude the layers around it"
        )


def _aligned(graphs: Sequence[Any]) -> list[tuple[tuple[Any, ...], list[list[int]]]]:
    """The same initialiser of each graph, with its dimensions."""
    return [
        (tensors, [list(tensor.dims) for tensor in tensors])
        for tensors in zip(*(graph.graph.initializer for graph in graphs), strict=True)
    ]


def _columns(rows: Sequence[Any]) -> npt.NDArray[np.int64]:
    """Values by entry, [num_entries, num_rows]; no entries if the rows are empty."""
    if len({len(row) for row in rows}) != 1:
        raise ValueError(
            "network must have the same ranks at every width, got tensors of "
            f"{sorted({len(row) for row in rows})} entries; forward must not depend on the widths"
        )
    return np.array(rows, dtype=np.int64).reshape(len(rows), -1).T


def _resized(tensor: Any, dims: Sequence[int]) -> npt.NDArray[Any]:
    """Values like those of ``tensor`` in another shape."""
    import onnx

    values = onnx.numpy_helper.to_array(tensor).ravel()
    pool = values[:: max(1, len(values) // _POOL)][:_POOL]
    return np.resize(pool, list(dims))


def _tensor(array: npt.NDArray[Any], name: str) -> Any:
    import onnx

    return onnx.numpy_helper.from_array(array, name)
