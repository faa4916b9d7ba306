"""Where fake quantisers go: which weights, and on the way into or out of which modules."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_cost.network.dataflow import Call, Dataflow, Value

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
# the activations that runtimes compute inside an integer convolution
_FUSED = {
    F.relu,
    F.relu6,
    F.relu_,
    F.hardtanh,
    F.hardtanh_,
    torch.relu,
    torch.relu_,
    Tensor.relu,
    Tensor.relu_,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """Where the fake quantisers of one network go.

    Args:
        sources: For each layer with a quantised weight, the module that quantises its input: the
            layer itself on the way in, or the one module that wrote the input on its way out.
        outputs: Further modules with a quantised output.
        left_float: Modules with weights that stay in floating point, and why.
    """

    sources: dict[str, str]
    outputs: tuple[str, ...]
    left_float: dict[str, str]


def place(
    network: nn.Module, dataflow: Dataflow, norms: dict[str, str], exclude: Sequence[str]
) -> Placement:
    """Find the places for fake quantisers.

    A layer's input is quantised where it was written, if a single call of one module wrote it: so
    a residual branch beside the layer reads the same quantised tensor. The result of a
    convolution, after its batch norm and its ReLU, is quantised too unless it leaves the network:
    a runtime computes in integers only from one quantised tensor to the next.

    Args:
        network: Before folding.
        dataflow: One forward pass of it.
        norms: The batch norm that will be folded into each layer.
        exclude: Modules that stay in floating point, all within them included.
    """
    left_float = _left_float(network, dataflow, exclude)
    layers = [
        name
        for name, module in network.named_modules()
        if isinstance(module, LAYERS) and name not in left_float
    ]
    writers = _writers(network, dataflow)
    sources = {}
    for layer in layers:
        calls = dataflow.calls_of(layer)
        writer = writers.get(calls[0].inputs[0]) if len(calls) == 1 else None
        sources[layer] = layer if writer is None else writer
    quantized = {writer for layer, writer in sources.items() if writer != layer}
    outputs = []
    for layer in layers:
        if not isinstance(network.get_submodule(layer), _CONVOLUTIONS):
            continue
        writer = _writer_of_result(dataflow, writers, layer, norms.get(layer, layer))
        if writer is not None and writer not in quantized:
            quantized.add(writer)
            outputs.append(writer)
    return Placement(sources=sources, outputs=tuple(outputs), left_float=left_float)


def _writers(network: nn.Module, dataflow: Dataflow) -> dict[Value, str]:
    """The innermost module that wrote each value as its only output, if it is called once.

    A Sequential cannot hold a quantiser, since it runs its children; its last child can.
    """
    writers: dict[Value, str] = {}
    for call in dataflow.called_once():
        module = network.get_submodule(call.module)
        if call.returns_tensor and type(module).forward is not nn.Sequential.forward:
            writers.setdefault(call.outputs[0], call.module)
    return {value: name for value, name in writers.items() if not _is_input(dataflow, value)}


def _is_input(dataflow: Dataflow, value: Value) -> bool:
    """Whether the network was given ``value``, and modules such as an identity only passed it."""
    return value in dataflow.calls[-1].inputs


def _writer_of_result(
    dataflow: Dataflow, writers: dict[Value, str], layer: str, norm: str
) -> str | None:
    """The module whose output is the final result of ``layer``; ``None`` if none should be."""
    calls = dataflow.calls_of(norm)
    if len(calls) != 1:
        return None
    value = calls[0].outputs[0]
    readers = dataflow.readers_of(value)
    if len(readers) == 1 and readers[0].function in _FUSED:
        value = readers[0].outputs[0]
        readers = dataflow.readers_of(value)
    if any(reader.function is None for reader in readers):
        return None
    return writers.get(value)


def _left_float(network: nn.Module, dataflow: Dataflow, exclude: Sequence[str]) -> dict[str, str]:
    names = {name for name, _ in network.named_modules()}
    for name in exclude:
        if name not in names:
            known = ", ".join(repr(known) for known, _ in network.named_children())
            raise ValueError(
                f"exclude must name modules of the network, got {name!r}; "
                f"use names as in named_modules, which start with one of {known}"
            )
    holders = Counter(
        id(parameter) for module in network.modules() for parameter in module._parameters.values()
    )
    reasons = {}
    for name, module in network.named_modules():
        reason = _reason(module, dataflow.calls_of(name), holders)
        if any(name == one or name.startswith(f"{one}.") for one in exclude):
            reason = "excluded"
        if reason is not None and _has_weight(module):
            reasons[name] = reason
    return reasons


def _reason(module: nn.Module, calls: list[Call], holders: Counter[int]) -> str | None:
    if not isinstance(module, LAYERS):
        return f"{type(module).__name__} has no quantised form"
    if not isinstance(module._parameters.get("weight"), nn.Parameter):
        return "its weight is computed from others"
    if holders[id(module.weight)] > 1 or (module.bias is not None and holders[id(module.bias)] > 1):
        return "it shares its weight or bias with another module"
    if not calls:
        return "it is not called in a forward pass"
    if any(len(call.inputs) != 1 or not call.returns_tensor for call in calls):
        return "it takes or returns more than one tensor"
    return None


def _has_weight(module: nn.Module) -> bool:
    """Whether it holds parameters of two dimensions or more, or is a layer."""
    parameters = [parameter for parameter in module._parameters.values() if parameter is not None]
    return isinstance(module, LAYERS) or any(parameter.dim() > 1 for parameter in parameters)
