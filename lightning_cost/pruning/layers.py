"""The layers that channels run through: what belongs to their output and input axes."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

Axis: TypeAlias = Literal["out", "in"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerAxis:
    """One axis of a layer: every tensor dimension and attribute that has its size.

    Args:
        size: Positions along the axis.
        tensors: Dimension of each parameter or buffer that lies along the axis, by name.
        attributes: Integer attributes of the layer that hold the size.
    """

    size: int
    tensors: dict[str, int]
    attributes: tuple[str, ...]


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
    if is_depthwise(layer):
        channels = ("in_channels", "out_channels", "groups")
        return {"out": _axis(layer, {"weight": 0, "bias": 0}, channels)}
    if isinstance(layer, _ConvNd) and layer.groups == 1:
        out_dim = 1 if isinstance(layer, _ConvTransposeNd) else 0
        return {
            "out": _axis(layer, {"weight": out_dim, "bias": 0}, ("out_channels",)),
            "in": _axis(layer, {"weight": 1 - out_dim}, ("in_channels",)),
        }
    if isinstance(layer, nn.Linear):
        return {
            "out": _axis(layer, {"weight": 0, "bias": 0}, ("out_features",)),
            "in": _axis(layer, {"weight": 1}, ("in_features",)),
        }
    if isinstance(layer, _BatchNorm):
        tensors = dict.fromkeys(("weight", "bias", "running_mean", "running_var"), 0)
        return {"out": _axis(layer, tensors, ("num_features",))}
    if isinstance(layer, nn.PReLU) and layer.num_parameters > 1:
        return {"out": _axis(layer, {"weight": 0}, ("num_parameters",))}
    return {}


def input_dim(layer: nn.Module) -> int:
    """The dimension, counted from the end, of a layer's input that its ``"in"`` axis is."""
    return 1 - layer.weight.dim() if isinstance(layer, _ConvNd) else -1


def _axis(layer: nn.Module, tensors: dict[str, int], attributes: tuple[str, ...]) -> LayerAxis:
    present = {name: dim for name, dim in tensors.items() if getattr(layer, name) is not None}
    return LayerAxis(
        size=int(getattr(layer, attributes[0])), tensors=present, attributes=attributes
    )
