"""The layers of an ONNX graph: each multiplication by weights, with what runs after it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lightning_cost.runtime.onnx_template import Floats, OnnxTemplate, Size
from lightning_cost.runtime.operator_owners import OperatorOwners
from lightning_cost.runtime.width_layer import WidthLayer

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_RECODING = ("QuantizeLinear", "DequantizeLinear")
_WITHOUT_WORK = {*_RECODING, "Cast", "Constant", "Flatten", "Identity", "Reshape", "Squeeze"}


class GraphLayers:
    """The layers of a templated graph, and to which of them a runtime's operators belong.

    Args:
        template: The graph.
        shapes: Shapes of the graph's inputs by name, batch included.

    Attributes:
        layers: The layers, in the order of execution.
        owners: Which layer each node of the graph belongs to.

    Raises:
        ValueError: If the graph multiplies by no weights, or the shape of a layer's input is not
            known; names the layer.
    """

    def __init__(self, template: OnnxTemplate, shapes: Mapping[str, Sequence[int]]) -> None:
        graph = template.graph
        self._producers = {name: node for node in graph.node for name in node.output}
        self._weights = {tensor.name for tensor in graph.initializer}
        self._places = self._segments(graph)
        found = [node for node in graph.node if self._weight_of(node) is not None]
        if not found:
            raise ValueError(
                "network must multiply by weights somewhere, got a graph that does not; "
                "there is nothing whose width could vary"
            )
        sizes = _inferred_shapes(template, shapes)
        self.layers = tuple(
            self._described(template, node, place, sizes) for place, node in enumerate(found)
        )
        self._channels = [self._axes(template, node) for node in found]
        places = {**self._readers(graph), **self._places}
        self.owners = OperatorOwners(places=places, num_layers=len(found))

    def channels_at(self, sizes: Floats) -> tuple[Floats, Floats]:
        """Output and input channels [N, num_layers] where the known sizes are [N, num_sizes]."""
        outs, ins = (
            np.stack([pair[axis].at(sizes) for pair in self._channels], axis=1) for axis in (0, 1)
        )
        return outs, ins

    def _segments(self, graph: Any) -> dict[str, int]:
        """By name of node and of tensor: the last layer before it in the flow of data."""
        places: dict[str, int] = {}
        num_layers = 0
        for node in graph.node:
            if self._weight_of(node) is not None:
                place = num_layers
                num_layers += 1
            else:
                before = [places[name] for name in node.input if name in places]
                if not before and all(name in self._weights for name in node.input):
                    continue  # weights alone: part of whoever reads them
                place = max(before, default=0)
            places[node.name] = place
            for name in node.output:
                places[name] = place
        return places

    def _readers(self, graph: Any) -> dict[str, int]:
        """By name of node and of tensor that come of weights alone: the layer that reads them."""
        places: dict[str, int] = {}
        for node in reversed(graph.node):
            if node.name not in self._places:
                readers = [places[name] for name in node.output if name in places]
                place = min(readers, default=0)
                places.update(dict.fromkeys([node.name, *node.output], place))
            else:
                place = self._places[node.name]
            for name in node.input:
                places.setdefault(name, place)
        return places

    def _weight_of(self, node: Any) -> str | None:
        """The initialiser that a node multiplies by, straight or dequantised."""
        if node.op_type not in _WEIGHTED:
            return None
        name = str(node.input[1])
        while name in self._producers and self._producers[name].op_type in _RECODING:
            name = str(self._producers[name].input[0])
        return name if name in self._weights else None

    def _is_first(self, node: Any, graph: Any) -> bool:
        """Whether a layer reads what the network is given, whose layout and type are special."""
        name = str(node.input[0])
        while name in self._producers and self._producers[name].op_type in _RECODING:
            name = str(self._producers[name].input[0])
        return any(entry.name == name for entry in graph.input)

    def _axes(self, template: OnnxTemplate, node: Any) -> tuple[Size, Size]:
        """Sizes of the output and input channels."""
        weight = self._weight_of(node)
        assert weight is not None
        shape = template.shape_of(weight)
        groups = _integers(node, "group", 1)
        if node.op_type == "Conv":
            return shape[0], shape[0] if _is_depthwise(node, shape) else _times(shape[1], groups)
        if node.op_type == "ConvTranspose":
            return _times(shape[1], groups), shape[0]
        if node.op_type == "Gemm" and _integers(node, "transB", 0):
            return shape[0], shape[1]
        return shape[-1], shape[-2]

    def _described(
        self, template: OnnxTemplate, node: Any, place: int, sizes: Mapping[str, Sequence[int]]
    ) -> WidthLayer:
        weight = self._weight_of(node)
        assert weight is not None
        shape = template.shape_of(weight)
        kernel = [size.constant for size in shape[2:]]
        is_depthwise = node.op_type == "Conv" and _is_depthwise(node, shape)
        is_quantized = node.input[1] in self._producers
        groups = _integers(node, "group", 1)
        followers = [
            other.op_type
            for other in template.graph.node
            if self._places.get(other.name) == place
            and other.op_type not in _WITHOUT_WORK
            and other.name != node.name
        ]
        data = sizes.get(node.input[0], ())
        if not data or 0 in data:
            raise ValueError(
                "network must have shapes that follow from those of its inputs, got an input of "
                f"{_module_of(weight)!r} that does not; ONNX shape inference must reach it"
            )
        positions = data[2:] if node.op_type.startswith("Conv") else data[1:-1]
        parts = [
            node.op_type,
            "x".join(map(str, kernel)),
            "depthwise" if is_depthwise else f"groups{groups}" if groups > 1 else "",
            *(
                f"{name}{'x'.join(map(str, values))}"
                for name, values in _lists(node, ("strides", "pads", "dilations"))
            ),
            "on " + "x".join(map(str, positions)) if positions else "",
            "int8" if is_quantized else "float",
            f"batch{data[0]}",
            "of the input" if self._is_first(node, template.graph) else "",
            "then " + "+".join(followers) if followers else "",
        ]
        width = 1 if is_quantized else 4
        return WidthLayer(
            name=_module_of(weight),
            signature=" ".join(part for part in parts if part),
            is_depthwise=is_depthwise,
            bytes_per_weight=float(np.prod(kernel, initial=width))
            / (1 if is_depthwise else groups),
        )


def _module_of(weight: str) -> str:
    """The module that a weight belongs to, by the exporter's names."""
    name = weight.partition("#")[0].removesuffix(".values")
    return name.rpartition(".")[0] or name


def _is_depthwise(node: Any, shape: Sequence[Size]) -> bool:
    """One input channel a filter, and as many groups as filters."""
    groups = _integers(node, "group", 1)
    return groups > 1 and shape[1].column is None and shape[1].constant == 1


def _integers(node: Any, name: str, default: int) -> int:
    return next((int(entry.i) for entry in node.attribute if entry.name == name), default)


def _lists(node: Any, names: Sequence[str]) -> list[tuple[str, list[int]]]:
    found = {entry.name: list(entry.ints) for entry in node.attribute}
    return [(name, found[name]) for name in names if found.get(name)]


def _times(size: Size, factor: int) -> Size:
    if size.column is None:
        return Size(constant=size.constant * factor)
    return Size(column=size.column, factor=size.factor * factor)


def _inferred_shapes(
    template: OnnxTemplate, shapes: Mapping[str, Sequence[int]]
) -> dict[str, list[int]]:
    """Shapes of the tensors in the graph of the first model."""
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(template.model)
    for entry in model.graph.input:
        for dim, size in zip(entry.type.tensor_type.shape.dim, shapes[entry.name], strict=True):
            dim.dim_value = size
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    known = (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output)
    return {
        entry.name: [dim.dim_value for dim in entry.type.tensor_type.shape.dim] for entry in known
    }
