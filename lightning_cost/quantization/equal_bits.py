"""Integers of as many bits in place of sums of powers of two, to compare them with."""

from torch import nn

from lightning_cost.cost.duplicate import duplicated
from lightning_cost.quantization.schemes.flightnn import FLightNN
from lightning_cost.quantization.schemes.powers import APoT, PowerOfTwo
from lightning_cost.quantization.schemes.scheme import Scheme
from lightning_cost.quantization.schemes.uniform import Int8, LowBit
from lightning_cost.quantization.weights import FittedScale, quantized_weights

_SUMS_OF_POWERS = (PowerOfTwo, FLightNN, APoT)


def with_integers(network: nn.Module) -> nn.Module | None:
    """A copy of a prepared network, its powers of two replaced by integers of as many bits.

    Each layer gets the nearest whole number of bits, at least 2; ranges of activations stay as they
    are. Nothing is trained: compare it with the calibrated network, not with the trained one.

    Returns:
        ``None`` if no weight is a sum of powers of two.
    """
    integers = duplicated(network)
    is_changed = False
    for _, quantizer, weight in quantized_weights(integers):
        rounding = quantizer.rounding
        if isinstance(rounding.scheme, _SUMS_OF_POWERS):
            scheme = _integers(rounding.weight_bits, rounding.scheme)
            quantizer.rounding = FittedScale(scheme, weight).train(quantizer.training)
            is_changed = True
    return integers if is_changed else None


def _integers(bits: float, replaced: Scheme) -> Scheme:
    whole = max(2, round(bits))
    return LowBit(bits=whole) if whole < 8 else Int8(reduced_range=max(replaced.levels) <= 64)
