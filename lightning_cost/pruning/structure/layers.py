"""The layers that channels run through: what belongs to their output and input axes."""

from dataclasses import dataclass, field
from typing import TypeAlias

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

Axis: TypeAlias = str
"""``"out"`` or ``"in"``; with ``":NAME:DIM"`` of a parameter in no known kind of layer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerAxis:
    """One axis of a layer: every tensor dimension and attribute that has its size.

    Args:
        size: Positions along the axis.
        tensors: Dimension of each parameter or buffer that lies along the axis, by name.
        attributes: Integer attributes of the layer that follow the size, each with the positions
            that one of it stands for.
    """

    size: int
    tensors: dict[str, int]
    attributes: dict[str, int] = field(default_factory=dict)


def is_consuming(axis: Axis) -> bool:
    """Whether channels end at ``axis``, rather than being made there.

    >>> is_consuming("in"), is_consuming("out:weight_ih_l0:0")
    (True, False)
    """
    return axis.partition(":")[0] == "in"


def is_depthwise(layer: nn.Module) -> bool:
    """Whether each output channel of a convolution has one input channel to itself."""
    return (
        isinstance(layer, _ConvNd)
        and layer.groups > 1
        and layer.groups == layer.in_channels == layer.out_channels
    )


def axes_of(layer: nn.Module) -> dict[Axis, LayerAxis]:
    """The axes of a layer whose channels can be removed; empty for other modules.

    Layers that map each channel to itself (depthwise convolution, batch norm, PReLU) have an
    ``"out"`` axis alone.

    >>> axes_of(nn.Linear(3, 4))["in"].tensors
    {'weight': 1}
    """
    if isinstance(layer, _ConvNd):
        return _of_convolution(layer)
    if isinstance(layer, nn.Linear):
        return {
            "out": _axis(layer, {"weight": 0, "bias": 0}, {"out_features": 1}),
            "in": _axis(layer, {"weight": 1}, {"in_features": 1}),
        }
    if isinstance(layer, _NormBase):
        tensors = dict.fromkeys(("weight", "bias", "running_mean", "running_var"), 0)
        return {"out": _axis(layer, tensors, {"num_features": 1})}
    if isinstance(layer, nn.GroupNorm) and layer.affine and layer.num_groups > 1:
        width = layer.num_channels // layer.num_groups
        attributes = {"num_channels": 1, "num_groups": width}
        return {"out": _axis(layer, {"weight": 0, "bias": 0}, attributes)}
    if isinstance(layer, nn.PReLU) and layer.num_parameters > 1:
        return {"out": _axis(layer, {"weight": 0}, {"num_parameters": 1})}
    return {}


def axis_of(layer: nn.Module, axis: Axis) -> LayerAxis | None:
    """One axis of a layer, or of a parameter in no known kind of layer; ``None`` if it has none."""
    if ":" not in axis:
        return axes_of(layer).get(axis)
    _, name, dim = axis.split(":")
    tensor = getattr(layer, name, None)
    if not isinstance(tensor, Tensor) or tensor.dim() <= int(dim):
        return None
    attributes = _attributes_along(layer, name, int(dim))
    return LayerAxis(size=tensor.shape[int(dim)], tensors={name: int(dim)}, attributes=attributes)


def parameter_axis(name: str, dim: int, *, is_consuming: bool) -> Axis:
    """The axis that dimension ``dim`` of a parameter in no known kind of layer is."""
    return f"{'in' if is_consuming else 'out'}:{name}:{dim}"


def layer_axis(layer: nn.Module, name: str, dim: int) -> Axis | None:
    """The axis that dimension ``dim`` of a tensor of a known kind of layer lies along."""
    for axis, found in axes_of(layer).items():
        if found.tensors.get(name) == dim:
            return axis
    return None


def input_dim(layer: nn.Module) -> int:
    """The dimension of a layer's input, and output, that holds its channels."""
    if isinstance(layer, _ConvNd):
        return 1 - layer.weight.dim()  # from the end, as there may be no batch
    return -1 if isinstance(layer, nn.Linear) else 1


def _of_convolution(layer: _ConvNd) -> dict[Axis, LayerAxis]:
    is_transposed = isinstance(layer, _ConvTransposeNd)
    if is_depthwise(layer):
        attributes = dict.fromkeys(("in_channels", "out_channels", "groups"), 1)
        return {"out": _axis(layer, {"weight": 0, "bias": 0}, attributes)}
    if layer.groups == 1:
        out_dim = 1 if is_transposed else 0
        return {
            "out": _axis(layer, {"weight": out_dim, "bias": 0}, {"out_channels": 1}),
            "in": _axis(layer, {"weight": 1 - out_dim}, {"in_channels": 1}),
        }
    if is_transposed:
        return {}
    # the weight's second dimension is the inputs of one group: surgery knows
    return {
        "out": _axis(layer, {"weight": 0, "bias": 0}, {"out_channels": 1}),
        "in": _axis(layer, {}, {"in_channels": 1}),
    }


def _attributes_along(layer: nn.Module, name: str, dim: int) -> dict[str, int]:
    """Attributes of PyTorch's own layers that a dimension of a parameter is a multiple of."""
    if isinstance(layer, (nn.RNNBase, nn.RNNCellBase)):
        is_input = name.startswith("weight_ih") and dim == 1
        if is_input:
            is_first = isinstance(layer, nn.RNNCellBase) or "_l0" in name
            return {"input_size": 1} if is_first else {}
        if dim == 0:
            return {"hidden_size": getattr(layer, name).shape[0] // layer.hidden_size}
    if isinstance(layer, nn.MultiheadAttention) and dim == 0 and name.startswith("in_proj"):
        return {"num_heads": getattr(layer, name).shape[0] // layer.num_heads}
    return {}


def _axis(layer: nn.Module, tensors: dict[str, int], attributes: dict[str, int]) -> LayerAxis:
    present = {name: dim for name, dim in tensors.items() if getattr(layer, name) is not None}
    size = int(getattr(layer, next(iter(attributes))))
    return LayerAxis(size=size, tensors=present, attributes=attributes)
