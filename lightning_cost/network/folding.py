"""Folding batch norm into the convolution or linear layer before it, as deployment does."""

from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

from lightning_cost.cost.duplicate import duplicated
from lightning_cost.cost.forward import Example
from lightning_cost.network.dataflow import Dataflow, trace_dataflow
from lightning_cost.network.filters import FilterLayout
from lightning_cost.network.lineage import ParameterSwap

Layer: TypeAlias = _ConvNd | nn.Linear
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED, nn.Linear)
# a subclass that adds an activation, say, cannot be replaced by an identity
_BATCH_NORM_FORWARDS = (_BatchNorm.forward, nn.SyncBatchNorm.forward)


def foldable_pairs(network: nn.Module, example: Example) -> list[tuple[str, str]]:
    """The names of each layer and of the batch norm that can be folded into it.

    The batch norm reads what the layer wrote, nothing else reads it, both are called once in a
    forward pass of ``example``, and the layer is linear in its weight and bias, which a subclass
    that standardises its weight, say, is not (on the ``meta`` device, where nothing can be tried,
    no subclass is taken to be). The network is left as it was found.
    """
    return pairs_in(trace_dataflow(network, example), network)


def pairs_in(dataflow: Dataflow, network: nn.Module) -> list[tuple[str, str]]:
    """As :func:`foldable_pairs`, from a forward pass that has been traced."""
    modules = dict(network.named_modules())
    owned = owned_weights(network)
    once = dataflow.called_once()
    simple = [call for call in once if call.returns_tensor and len(call.inputs) == 1]
    layers = {call.outputs[0]: call for call in simple if _has_foldable_type(modules[call.module])}
    pairs = []
    for call in simple:
        norm = modules[call.module]
        writer = layers.get(call.inputs[0])
        if writer is None or not _is_foldable_norm(norm):
            continue
        layer = modules[writer.module]
        output = dataflow.tensors[writer.outputs[0].tensor]
        if (
            len(dataflow.readers_of(writer.outputs[0])) == 1
            and id(layer.weight) in owned
            and _num_filters(layer) == norm.num_features
            and layer.weight.dim() == output.dim()
            and _is_linear_in_weight(layer, dataflow.tensors[writer.inputs[0].tensor])
        ):
            pairs.append((writer.module, call.module))
    return pairs


@torch.no_grad()
def fold_batch_norms(network: nn.Module, pairs: Sequence[tuple[str, str]]) -> list[ParameterSwap]:
    r"""Fold each batch norm of ``pairs`` into its layer, in place.

    :math:`w' = w\,γ/σ` and :math:`b' = (b - μ)\,γ/σ + β`. The weight stays the same Parameter
    object; the batch norm becomes an ``nn.Identity``; a layer without bias gets one.

    Returns:
        The batch norms' parameters as removed, the new biases as added.

    Raises:
        ValueError: If a pair names something else than a layer and a batch norm of its width.

    >>> network = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2))
    >>> [swap.new is None for swap in fold_batch_norms(network, [("0", "1")])]
    [False, True, True]
    >>> network[1]
    Identity()
    """
    modules = dict(network.named_modules())
    check_pairs(network, pairs)
    swaps: list[ParameterSwap] = []
    for layer_name, norm_name in pairs:
        norm = modules[norm_name]
        swaps += _fold(modules[layer_name], norm)
        become_identity(norm)
    return swaps


def become_identity(norm: nn.Module) -> None:
    """Make a batch norm that was folded, in place, pass its input on; hooks on it stay."""
    norm.__class__ = nn.Identity
    norm._parameters.clear()
    norm._buffers.clear()


def check_pairs(network: nn.Module, pairs: Sequence[tuple[str, str]]) -> None:
    """Raise where ``pairs`` were not found in such a network.

    Raises:
        ValueError: If a pair names something else than a layer and a batch norm of its width.
    """
    modules = dict(network.named_modules())
    for layer_name, norm_name in pairs:
        layer, norm = modules.get(layer_name), modules.get(norm_name)
        if (
            not isinstance(layer, _LAYERS)
            or not isinstance(norm, _BatchNorm)
            or norm.num_features != _num_filters(layer)
        ):
            raise ValueError(
                "pairs must name a layer and a batch norm over its output channels, got "
                f"{layer_name!r} ({type(layer).__name__}) and {norm_name!r} "
                f"({type(norm).__name__}); fold the network that the pairs were found in"
            )


def owned_weights(network: nn.Module) -> set[int]:
    """Identities of the parameters that a single module holds."""
    holders = Counter(
        id(parameter)
        for module in network.modules()
        for parameter in module.parameters(recurse=False)
    )
    return {parameter for parameter, count in holders.items() if count == 1}


def _fold(layer: Layer, norm: _BatchNorm) -> list[ParameterSwap]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    weight = layer.weight
    if weight.is_meta:  # which has shapes alone
        bias = weight.new_empty(norm.num_features) if layer.bias is None else layer.bias
        return _swaps(layer, norm, bias)
    scale = torch.rsqrt(norm.running_var + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight
    bias = -norm.running_mean if layer.bias is None else layer.bias - norm.running_mean
    bias = bias * scale
    if norm.bias is not None:
        bias = bias + norm.bias
    _scale_filters(layer, scale)
    return _swaps(layer, norm, bias)


def _swaps(layer: Layer, norm: _BatchNorm, bias: Tensor) -> list[ParameterSwap]:
    """Give ``layer`` the bias; what that does to the parameters of both."""
    weight, swaps = layer.weight, []
    if layer.bias is None:
        layer.bias = nn.Parameter(bias.to(weight.dtype), requires_grad=weight.requires_grad)
        swaps.append(ParameterSwap(old=None, new=layer.bias))
    else:
        layer.bias.copy_(bias)
    removed = [parameter for parameter in (norm.weight, norm.bias) if parameter is not None]
    return swaps + [ParameterSwap(old=parameter, new=None) for parameter in removed]


def _has_foldable_type(layer: nn.Module | None) -> bool:
    return isinstance(layer, _LAYERS) and not parametrize.is_parametrized(layer)


def _is_foldable_norm(norm: nn.Module) -> bool:
    return (
        isinstance(norm, _BatchNorm)
        and type(norm).forward in _BATCH_NORM_FORWARDS
        and norm.running_mean is not None
        and norm.running_var is not None
    )


@torch.no_grad()
def _is_linear_in_weight(layer: Layer, inputs: Tensor) -> bool:
    """Whether scaling each filter, and adding to its bias, does just that to the output."""
    if type(layer) in _LAYERS:
        return True
    if inputs.is_meta:
        return False
    probe = duplicated(layer).eval()
    before = probe.forward(inputs)
    scale = 2.0 ** (1 + torch.arange(_num_filters(probe), device=before.device) % 3).to(before)
    _scale_filters(probe, scale)
    bias = torch.zeros_like(scale) if probe.bias is None else probe.bias * scale
    probe.bias = nn.Parameter(bias + 1)
    expected = before * _along_dim_1(scale, before) + 1
    tolerance = 1e-4 * float(expected.abs().max())
    return torch.allclose(probe.forward(inputs), expected, rtol=1e-4, atol=tolerance)


def _num_filters(layer: Layer) -> int:
    return len(FilterLayout.of(layer).filters_first(layer.weight))


def _scale_filters(layer: Layer, scale: Tensor) -> None:
    layout = FilterLayout.of(layer)
    filters = layout.filters_first(layer.weight)
    filters = filters * scale.reshape(-1, *[1] * (filters.dim() - 1))
    layer.weight.copy_(layout.as_held(filters))


def _along_dim_1(vector: Tensor, output: Tensor) -> Tensor:
    return vector.reshape(1, -1, *[1] * (output.dim() - 2))
