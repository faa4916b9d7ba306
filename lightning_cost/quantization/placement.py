"""Where fake quantisers go: which weights, and on the way into or out of which modules."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_cost.network.attention import reason_to_stay_closed
from lightning_cost.network.dataflow import Call, Dataflow, Value

_CONVOLUTIONS = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)
LAYERS = (*_CONVOLUTIONS, nn.Linear)
TABLES = (nn.Embedding,)
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
# the functions that runtimes compute from an integer weight
_OF_WEIGHT = {
    *(F.conv1d, F.conv2d, F.conv3d),
    *(F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d),
    *(F.linear, F.embedding, torch.embedding),
}
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
        tables: Embeddings: their weight is quantised, their input is whole numbers.
        outputs: Further modules with a quantised output.
        left_float: Modules with weights that stay in floating point, and why.
    """

    sources: dict[str, str]
    tables: tuple[str, ...]
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
    tables = [
        name
        for name, module in network.named_modules()
        if isinstance(module, TABLES) and name not in left_float
    ]
    return Placement(
        sources=sources, tables=tuple(tables), outputs=tuple(outputs), left_float=left_float
    )


def _writers(network: nn.Module, dataflow: Dataflow) -> dict[Value, str]:
    """The innermost module that wrote each value as its only output, if it is called once.

    A container cannot hold a quantiser, since it may run all its children; its last child can.
    """
    writers: dict[Value, str] = {}
    for call in dataflow.called_once():
        module = network.get_submodule(call.module)
        if call.returns_tensor and not isinstance(module, _CONTAINERS):
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


def attentions(network: nn.Module, dataflow: Dataflow, exclude: Sequence[str]) -> dict[str, bool]:
    """The attention modules that can be opened, and whether each is always self-attention.

    Args:
        network: Before anything is changed.
        dataflow: One forward pass of it.
        exclude: Modules that stay as they are, all within them included.
    """
    found = {}
    for name, module in network.named_modules():
        if not isinstance(module, nn.MultiheadAttention) or _is_within(name, exclude):
            continue
        calls = dataflow.calls_of(name)
        if _reason_of_attention(module, calls) is None:
            found[name] = all(len(set(call.inputs[:3])) == 1 for call in calls)
    return found


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
        reason = _reason(module, dataflow.calls_of(name), holders, dataflow)
        if _is_within(name, exclude):
            reason = "excluded"
        if reason is not None and _has_weight(module):
            reasons[name] = reason
    return reasons


def _reason(
    module: nn.Module, calls: list[Call], holders: Counter[int], dataflow: Dataflow
) -> str | None:
    if isinstance(module, nn.MultiheadAttention):
        return _reason_of_attention(module, calls)
    if not isinstance(module, (*LAYERS, *TABLES)):
        return f"{type(module).__name__} has no quantised form"
    weight = module._parameters.get("weight")
    if weight is None:
        return "its weight is computed from others"
    if any(holders[id(own)] > 1 for own in module._parameters.values() if own is not None):
        return "it shares its weight or bias with another module"
    if not calls:
        return "it is not called in a forward pass"
    if any(not call.inputs or not call.returns_tensor for call in calls):
        return "it does not take and return a tensor"
    if isinstance(module, TABLES):
        reason = _reason_of_table(module)
        if reason is not None:
            return reason
    elif any(not dataflow.tensors[call.inputs[0].tensor].is_floating_point() for call in calls):
        return "its first input is not in floating point"
    readers = dataflow.readers_of(Value(id(weight), weight._version))
    if not any(reader.function in _OF_WEIGHT for reader in readers):
        return "its forward does not compute from its weight as it is"
    return None


def _is_within(name: str, exclude: Sequence[str]) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in exclude)


def _reason_of_attention(attention: nn.MultiheadAttention, calls: Sequence[Call]) -> str | None:
    return reason_to_stay_closed(attention) if calls else "it is not called in a forward pass"


def _reason_of_table(table: nn.Embedding) -> str | None:
    if table.max_norm is not None:
        return "it changes its weight in every forward pass, to keep max_norm"
    return "its gradients are sparse" if table.sparse else None


def _has_weight(module: nn.Module) -> bool:
    """Whether it holds parameters of two dimensions or more, or is a layer."""
    parameters = [parameter for parameter in module._parameters.values() if parameter is not None]
    return isinstance(module, LAYERS) or any(parameter.dim() > 1 for parameter in parameters)
