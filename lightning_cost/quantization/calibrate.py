"""The ranges of activations, from data."""

from collections.abc import Iterable

import torch
from torch import nn

from lightning_cost.cost.forward import Example, observing, run_forward
from lightning_cost.quantization.fake_quantizers import activation_fake_quantizers


def calibrate(network: nn.Module, batches: Iterable[Example]) -> None:
    """Set the ranges of a prepared network's activations, in place, from ``batches`` alone.

    Each range becomes the mean over the batches of the extremes that the network with quantised
    weights and unrounded activations shows. All else is left as it was found.

    Raises:
        ValueError: If the network is not prepared, if there is no batch, or if an activation is
            not finite.
    """
    quantizers = activation_fake_quantizers(network)
    if not quantizers:
        raise ValueError(
            "network must be prepared for quantisation, got one without fake quantisers; "
            "apply the change that plan_quantization returns first"
        )
    ranges: dict[str, list[torch.Tensor]] = {}
    with observing(network):
        for quantizer in quantizers.values():
            quantizer.reset()
            quantizer.is_calibrating = True
        try:
            for batch in batches:
                run_forward(network, batch)
            for name, quantizer in quantizers.items():
                state = (quantizer.min_value, quantizer.max_value, quantizer.num_observed)
                ranges[name] = [value.clone() for value in state]
        finally:
            for quantizer in quantizers.values():
                quantizer.is_calibrating = False
    for name, (low, high, num_observed) in ranges.items():
        if not num_observed:
            raise ValueError(
                "batches must hold at least one that reaches every fake quantiser, got none at "
                f"{name!r}; give batches of training data"
            )
        if not (low.isfinite() and high.isfinite()):
            raise ValueError(
                f"activations must be finite, got [{float(low)}, {float(high)}] at {name!r}; "
                "look for NaN and infinity in the data and the weights, and for overflow"
            )
    for name, (low, high, num_observed) in ranges.items():
        quantizers[name].min_value.copy_(low)
        quantizers[name].max_value.copy_(high)
        quantizers[name].num_observed.copy_(num_observed)
