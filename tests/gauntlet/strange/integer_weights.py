"""The law that what is listed as quantised is stored, and multiplied by, in integers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from torch import nn

from lightning_cost.network.deploy import deployed_copy
from lightning_cost.network.lineage import lineage_of
from lightning_cost.quantization.convert import stored_layers
from lightning_cost.quantization.prepare import PrepareQuantization
from tests.gauntlet.strange.laws import require

_WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul", "Gather"}
# what lies between stored integers and the operator that takes them, and computes nothing
_BETWEEN = {"DequantizeLinear", "Cast", "Transpose", "Reshape"}


def require_integer_weights(network: nn.Module, example: Any, path: Path) -> None:
    """Raise unless a file stores each layer that was listed as quantised in integers.

    They are known by their values: the exporter merges those of two layers that are the same.

    Args:
        network: Prepared for quantisation, or not.
        example: What one forward pass takes.
        path: The ONNX file that was written of it.
    """
    changes = [each for each in lineage_of(network) if isinstance(each, PrepareQuantization)]
    graph = onnx.load(path).graph
    integers = {
        tensor.name: onnx.numpy_helper.to_array(tensor).tolist()
        for tensor in graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8
    }
    stored = stored_layers(deployed_copy(network, example)) if changes else {}
    for layer in [layer for change in changes for layer in change.weights]:
        values = stored[layer][0].values.tolist() if layer in stored else None
        names = [name for name, array in integers.items() if array == values]
        require(bool(names), f"{layer!r} is listed as quantised, and stored as integers")
        kinds = {node.op_type for name in names for node in _takers(graph, name)}
        told = ", ".join(sorted(kinds)) or "nobody"
        law = f"{layer!r} is listed as quantised, and {told} takes its integers"
        require(bool(kinds & _WEIGHTED), law)


def _takers(graph: Any, name: str) -> Iterator[Any]:
    """The operators that read a tensor of the file, dequantised or as it is."""
    for node in graph.node:
        if name not in node.input:
            continue
        if node.op_type in _BETWEEN:
            yield from (taker for output in node.output for taker in _takers(graph, output))
        else:
            yield node
