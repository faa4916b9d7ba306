"""From fake quantisers to stored integers and the operators that runtimes run in 8 bits."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from typing_extensions import override

from lightning_cost.quantization.fake_quantizers import (
    ActivationFakeQuantizer,
    WeightFakeQuantizer,
    activation_fake_quantizers,
)
from lightning_cost.quantization.operators import dequantize_filters, quantize_dequantize

_BIAS_LIMIT = 2.0**30


class QuantizeDequantize(nn.Module):
    """What becomes of an :class:`ActivationFakeQuantizer`: its grid as two numbers."""

    def __init__(self, *, scale: float, zero_point: int) -> None:
        super().__init__()
        self.scale = scale
        self.zero_point = zero_point

    @override
    def forward(self, x: Tensor) -> Tensor:
        """``x`` on the grid."""
        return quantize_dequantize(x, scale=self.scale, zero_point=self.zero_point)

    @override
    def extra_repr(self) -> str:
        return f"scale={self.scale:.4g}, zero_point={self.zero_point}"


class StoredIntegers(nn.Module):
    """A weight as it is stored: integers, and one scale for each filter."""

    values: Tensor
    scale: Tensor

    def __init__(self, values: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("values", values)
        self.register_buffer("scale", scale)

    @override
    def forward(self) -> Tensor:
        """In floating point, of shape [filters, ...]."""
        return dequantize_filters(self.values, self.scale)


def convert(network: nn.Module, sources: Mapping[str, str]) -> nn.Module:
    """A converted copy of a prepared and calibrated network; see :func:`convert_in_place`."""
    converted = copy.deepcopy(network).eval()
    convert_in_place(converted, sources)
    return converted


@torch.no_grad()
def convert_in_place(network: nn.Module, sources: Mapping[str, str]) -> None:
    """Turn fake quantisers into integers and quantise/dequantise operators.

    Weights are stored as int8 with one scale for each filter, biases stay in floating point: with
    them the converted network computes what the prepared one does in evaluation mode. The two
    numbers of each activation's grid are not tensors, and so not part of the network's size. A
    network that is converted already stays as it is.

    Args:
        network: Prepared and calibrated.
        sources: For each quantised layer, the module that quantises its input.

    Raises:
        ValueError: If the range of an activation has never been observed, or is not finite.
    """
    quantizers = activation_fake_quantizers(network)
    for name, quantizer in quantizers.items():
        _check_range(name, quantizer)
    for layer_name, source in sources.items():
        layer = network.get_submodule(layer_name)
        if not parametrize.is_parametrized(layer, "weight"):
            continue
        place = "input" if source == layer_name else "output"
        quantizer = quantizers[f"{source}.{place}_fake_quantizer".lstrip(".")]
        _store_integers(layer, quantizer.grid()[0])
    for name, quantizer in quantizers.items():
        scale, zero_point = quantizer.grid()
        operator = QuantizeDequantize(scale=float(scale), zero_point=int(zero_point))
        network.set_submodule(name, operator.eval())


def _store_integers(layer: nn.Module, input_scale: Tensor) -> None:
    parametrization = layer.get_submodule("parametrizations.weight")
    quantizer, weight = parametrization.get_submodule("0"), parametrization.original
    assert isinstance(quantizer, WeightFakeQuantizer)
    assert isinstance(weight, Tensor)
    values, scale = quantizer.scheme.quantize_weight(weight)
    if isinstance(layer.bias, Tensor):
        values, scale = _leave_room(values, scale, layer.bias.float(), input_scale)
    layer.__class__ = _stored_class(parametrize.type_before_parametrizations(layer))
    del layer.parametrizations
    layer.stored_weight = StoredIntegers(values, scale).eval()


def _leave_room(
    values: Tensor, scale: Tensor, bias: Tensor, input_scale: Tensor
) -> tuple[Tensor, Tensor]:
    """Coarser grids for filters that are so small that their bias would not fit into 32 bits.

    Runtimes count the bias in units of input scale times weight scale, and do not check.
    """
    enough = bias.abs() / input_scale / _BIAS_LIMIT
    factor = scale / scale.maximum(enough)
    return (values * _per_filter(factor, values)).round().to(values.dtype), scale.maximum(enough)


def _per_filter(vector: Tensor, values: Tensor) -> Tensor:
    return vector.reshape(-1, *[1] * (values.dim() - 1))


def _stored_class(base: type[nn.Module]) -> type[nn.Module]:
    """A subclass of ``base`` that reads its weight from where integers are stored."""

    def weight(layer: nn.Module) -> Tensor:
        tensor: Tensor = layer.get_submodule("stored_weight")()
        return tensor

    return type(f"Quantized{base.__name__}", (base,), {"weight": property(weight)})


def _check_range(name: str, quantizer: ActivationFakeQuantizer) -> None:
    if not quantizer.num_observed:
        raise ValueError(
            f"network must be calibrated before it is converted, got {name!r} without a range; "
            "call calibrate(network, batches), or train it first"
        )
    if not (quantizer.min_value.isfinite() and quantizer.max_value.isfinite()):
        raise ValueError(
            f"the range of activations must be finite, got [{float(quantizer.min_value)}, "
            f"{float(quantizer.max_value)}] at {name!r}; look for NaN or overflow in training"
        )
