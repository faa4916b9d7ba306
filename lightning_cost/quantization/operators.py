"""Quantise and dequantise operators that ``torch.onnx.export`` writes as QDQ.

The one place that names them: they are registered by importing a private module of PyTorch, and
are to be replaced here by operators of our own once that goes away.
"""

import torch
import torch.ao.quantization.fx._decomposed
from torch import Tensor

_OPERATORS = torch.ops.quantized_decomposed


def quantize_dequantize(x: Tensor, *, scale: float, zero_point: int) -> Tensor:
    """``x`` rounded to the unsigned 8-bit grid, as floating point.

    >>> quantize_dequantize(torch.tensor([-1.0, 0.3, 9.0]), scale=0.5, zero_point=0).tolist()
    [0.0, 0.5, 9.0]
    """
    limits = (zero_point, 0, 255, torch.uint8)
    quantized = _OPERATORS.quantize_per_tensor(x, scale, *limits)
    dequantized: Tensor = _OPERATORS.dequantize_per_tensor(quantized, scale, *limits)
    return dequantized


def dequantize_filters(values: Tensor, scale: Tensor) -> Tensor:
    """Integers of shape [filters, ...] times ``scale`` of shape [filters]."""
    info = torch.iinfo(values.dtype)
    zero_points = torch.zeros_like(scale, dtype=values.dtype)
    dequantized: Tensor = _OPERATORS.dequantize_per_channel(
        values, scale, zero_points, 0, info.min, info.max, values.dtype
    )
    return dequantized


def quantize_dequantize_signed(x: Tensor, *, scale: float, zero_point: int) -> Tensor:
    """``x`` rounded to the signed 8-bit grid, as floating point.

    >>> x = torch.tensor([-1.0, 0.3, 9.0])
    >>> quantize_dequantize_signed(x, scale=0.5, zero_point=-128).tolist()
    [0.0, 0.5, 9.0]
    """
    limits = (zero_point, -128, 127, torch.int8)
    quantized = _OPERATORS.quantize_per_tensor(x, scale, *limits)
    dequantized: Tensor = _OPERATORS.dequantize_per_tensor(quantized, scale, *limits)
    return dequantized


def dequantize_filters_from(values: Tensor, scale: Tensor, zero_points: Tensor) -> Tensor:
    """As :func:`dequantize_filters`, of int8 within -127 to 127, with ``zero_points`` given."""
    dequantized: Tensor = _OPERATORS.dequantize_per_channel(
        values, scale, zero_points, 0, -127, 127, torch.int8
    )
    return dequantized
