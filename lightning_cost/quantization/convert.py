"""From fake quantisers to stored integers and the operators that runtimes run in 8 bits."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from typing_extensions import override

from lightning_cost.cost.duplicate import duplicated
from lightning_cost.network.filters import FilterLayout
from lightning_cost.network.folding import become_identity
from lightning_cost.quantization.bias import quantize_bias, with_room
from lightning_cost.quantization.fake_quantizers import (
    ActivationFakeQuantizer,
    activation_fake_quantizers,
)
from lightning_cost.quantization.operators import dequantize_filters, quantize_dequantize
from lightning_cost.quantization.schemes.filters import per_filter
from lightning_cost.quantization.weights import parametrized


class QuantizeDequantize(nn.Module):
    """What becomes of an :class:`ActivationFakeQuantizer`: its grid as two numbers."""

    def __init__(self, *, scale: float, zero_point: int) -> None:
        super().__init__()
        self.scale = scale
        self.zero_point = zero_point

    @override
    def forward(self, x: Tensor) -> Tensor:
        """``x`` on the grid, in its own dtype."""
        if x.dtype is torch.float32:  # what the operators take
            return quantize_dequantize(x, scale=self.scale, zero_point=self.zero_point)
        on_grid = quantize_dequantize(x.float(), scale=self.scale, zero_point=self.zero_point)
        return on_grid.to(x.dtype)

    @override
    def extra_repr(self) -> str:
        return f"scale={self.scale:.4g}, zero_point={self.zero_point}"


class StoredIntegers(nn.Module):
    """A weight or bias as it is stored: integers, and one scale for each filter.

    Args:
        values: Of shape [filters, ...].
        scale: Of shape [filters].
        bits: That one of ``values`` is stored in; by default those of its dtype.
        dtype: In which the layer computes.
    """

    values: Tensor
    scale: Tensor

    def __init__(
        self,
        values: Tensor,
        scale: Tensor,
        bits: float | None = None,
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.dtype = dtype
        self.register_buffer("values", values)
        self.register_buffer("scale", scale)
        held = 8 * values.element_size() if bits is None else self.bits_of(bits)
        self.stored_bits = {"values": held}

    @staticmethod
    def bits_of(bits: float) -> float:
        """``bits`` in 64ths, so that sizes add up without rounding; never less."""
        return math.ceil(64 * bits) / 64

    @override
    def forward(self) -> Tensor:
        """In floating point, of shape [filters, ...]."""
        dequantized = dequantize_filters(self.values, self.scale)
        return dequantized if self.dtype is torch.float32 else dequantized.to(self.dtype)


def convert(
    network: nn.Module, sources: Mapping[str, str], tables: Sequence[str] = ()
) -> nn.Module:
    """A converted copy of a prepared and calibrated network; see :func:`convert_in_place`."""
    converted = duplicated(network).eval()
    convert_in_place(converted, sources, tables)
    return converted


@torch.no_grad()
def convert_in_place(
    network: nn.Module, sources: Mapping[str, str], tables: Sequence[str] = ()
) -> None:
    """Turn fake quantisers into integers and quantise/dequantise operators.

    Weights are stored as int8 and biases as int32, with one scale for each filter, and compute in
    floating point what the fake quantisers do in evaluation mode. Batch norms that were made
    foldable are folded. The two numbers of each activation's grid are not tensors, and so not part
    of the network's size. A network that is converted already stays as it is.

    Args:
        network: Prepared and calibrated.
        sources: For each quantised layer, the module that quantises its input.
        tables: Embeddings with a quantised weight.

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
    for name in tables:
        table = network.get_submodule(name)
        if parametrize.is_parametrized(table, "weight"):
            weight_quantizer, rows = parametrized(table.get_submodule("parametrizations.weight"))
            _, values, scales = weight_quantizer.eval().round(rows)
            bits = weight_quantizer.rounding.scheme.weight_bits
            install_integers(table, StoredIntegers(values, scales, bits, dtype=rows.dtype), None)
    for name, quantizer in quantizers.items():
        scale, zero_point = quantizer.grid()
        operator = QuantizeDequantize(scale=float(scale), zero_point=int(zero_point))
        network.set_submodule(name, operator.eval())


def _store_integers(layer: nn.Module, input_scale: Tensor) -> None:
    quantizer, weight = parametrized(layer.get_submodule("parametrizations.weight"))
    _, values, scale = quantizer.eval().round(weight)
    has_bias = parametrize.is_parametrized(layer, "bias")
    if has_bias:
        bias = layer.get_submodule("parametrizations.bias").original
        assert isinstance(bias, Tensor)
        if quantizer.norm is not None:
            bias = quantizer.norm.shift(bias)
        stored = quantize_bias(bias, weight_scale=scale, input_scale=input_scale)
        roomy = with_room(scale, bias=bias, input_scale=input_scale)
        factor = per_filter(scale / roomy, values)
        values, scale = (values * factor).round().to(values.dtype), roomy
    bias_integers = StoredIntegers(*stored, dtype=weight.dtype) if has_bias else None
    bits = quantizer.rounding.scheme.weight_bits
    weight_integers = StoredIntegers(values, scale, bits, dtype=weight.dtype)
    install_integers(layer, weight_integers, bias_integers)
    if quantizer.norm is not None:
        become_identity(quantizer.norm)


def install_integers(layer: nn.Module, weight: StoredIntegers, bias: StoredIntegers | None) -> None:
    """Make a prepared ``layer``, in place, read its weight and bias from stored integers."""
    layer.__class__ = _stored_class(parametrize.type_before_parametrizations(layer))
    del layer.parametrizations
    layer.stored_weight = weight.eval()
    if bias is not None:
        layer.stored_bias = bias.eval()


def stored_layers(
    network: nn.Module,
) -> dict[str, tuple[StoredIntegers, StoredIntegers | None]]:
    """The stored weight and bias of each layer of ``network`` that has them, by its name."""
    found = {}
    for name, module in network.named_modules():
        weight, bias = module._modules.get("stored_weight"), module._modules.get("stored_bias")
        if isinstance(weight, StoredIntegers):
            found[name] = (weight, bias if isinstance(bias, StoredIntegers) else None)
    return found


def _stored_class(base: type[nn.Module]) -> type[nn.Module]:
    """A subclass of ``base`` that reads its weight and bias from where integers are stored."""

    def weight(layer: nn.Module) -> Tensor:
        return FilterLayout.of(layer).as_held(layer.get_submodule("stored_weight")())

    def bias(layer: nn.Module) -> Tensor | None:
        stored = layer._modules.get("stored_bias")
        return None if stored is None else stored()

    members: dict[str, Any] = {"weight": property(weight), "bias": property(bias)}
    if base.forward is nn.Embedding.forward:
        members["forward"] = _look_up
    return type(f"Quantized{base.__name__}", (base,), members)


def _look_up(table: nn.Module, input: Tensor) -> Tensor:
    """The rows of an embedding that ``input`` names; the others stay integers."""
    stored = table.get_submodule("stored_weight")
    assert isinstance(stored, StoredIntegers)
    rows = F.embedding(input, stored.values)
    scaled = rows.to(stored.scale.dtype) * F.embedding(input, stored.scale[:, None])
    return scaled.to(stored.dtype)


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
