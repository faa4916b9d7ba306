"""Biases as the 32-bit integers that an integer convolution adds up in."""

import torch
from torch import Tensor

# int32 ends at 2 ** 31; half of it is left to the sum that the bias is added to
_LIMIT = 2.0**30


def with_room(weight_scale: Tensor, *, bias: Tensor, input_scale: Tensor) -> Tensor:
    """``weight_scale`` [filters], raised where the bias would not fit into 32 bits.

    That is where a filter is next to nothing, so that a coarser grid does it no harm.
    """
    return weight_scale.maximum(bias.detach().float().abs() / input_scale / _LIMIT)


def quantize_bias(
    bias: Tensor, *, weight_scale: Tensor, input_scale: Tensor
) -> tuple[Tensor, Tensor]:
    """The bias [filters] as int32 in units of input scale times weight scale, and that unit.

    >>> scale = torch.tensor([0.1])
    >>> quantize_bias(torch.tensor([0.5]), weight_scale=scale, input_scale=torch.tensor(0.01))[0]
    tensor([500], dtype=torch.int32)
    """
    scale = with_room(weight_scale, bias=bias, input_scale=input_scale) * input_scale
    return (bias.detach().double() / scale.double()).round().to(torch.int32), scale
