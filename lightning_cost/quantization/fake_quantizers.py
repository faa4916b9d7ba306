"""Modules that round to a quantised grid in floating point, so that a network can train for it."""

from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from lightning_cost.network.filters import FilterLayout
from lightning_cost.quantization.bias import quantize_bias
from lightning_cost.quantization.schemes import Scheme

NUM_LEVELS = 256
_AVERAGING = 0.01


class WeightFakeQuantizer(nn.Module):
    """Puts a weight on the grid of a scheme; the gradient passes as if it had not.

    A parametrization, for ``torch.nn.utils.parametrize.register_parametrization``.
    """

    def __init__(self, scheme: Scheme, layout: FilterLayout | None = None) -> None:
        super().__init__()
        self.scheme = scheme
        self.layout = layout or FilterLayout()

    @override
    def forward(self, weight: Tensor) -> Tensor:
        """The weight, as its layer holds it, rounded, in its own dtype."""
        values, scale = self.scheme.quantize_weight(self.layout.filters_first(weight))
        rounded = values * scale.reshape(-1, *[1] * (values.dim() - 1))
        held = self.layout.as_held(rounded).to(weight.dtype)
        passed: Tensor = _StraightThrough.apply(weight, held)  # type: ignore[no-untyped-call]
        return passed

    @override
    def extra_repr(self) -> str:
        return repr(self.scheme)


class BiasFakeQuantizer(nn.Module):
    """Puts a bias on the grid in which an integer layer adds it; the gradient passes.

    A parametrization of the bias. The grid follows from those of the layer's weight and input,
    which other modules own.
    """

    def __init__(self, weight: nn.Module, source: "ActivationFakeQuantizer") -> None:
        super().__init__()
        # in a tuple, so that they do not become children of this module too
        self._owners = (weight, source)

    @override
    def forward(self, bias: Tensor) -> Tensor:
        """The bias [filters] rounded, in its own dtype."""
        weight, source = self._owners
        if source.is_calibrating or not source.num_observed:
            return bias
        _, weight_scale = quantize_parametrized(weight)
        values, scale = quantize_bias(bias, weight_scale=weight_scale, input_scale=source.grid()[0])
        rounded = (values * scale).to(bias.dtype)
        passed: Tensor = _StraightThrough.apply(bias, rounded)  # type: ignore[no-untyped-call]
        return passed


class ActivationFakeQuantizer(nn.Module):
    """Puts activations on an affine grid of 256 levels between the extremes that it has observed.

    It observes in training mode while ``observer_enabled``: the mean of each batch's extremes at
    first, a moving average with weight 0.01 after 100 batches. Before the first observation values
    pass unchanged. Inside the grid the gradient passes, outside it is zero. All its state is in
    buffers, so that a checkpoint carries it.
    """

    min_value: Tensor
    max_value: Tensor
    num_observed: Tensor
    observer_enabled: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("min_value", torch.tensor(0.0))
        self.register_buffer("max_value", torch.tensor(0.0))
        self.register_buffer("num_observed", torch.tensor(0))
        self.register_buffer("observer_enabled", torch.tensor(1, dtype=torch.uint8))
        self.is_calibrating = False

    @override
    def forward(self, x: Tensor) -> Tensor:
        """``x`` rounded to the grid, or ``x`` itself while it is being calibrated."""
        if self.is_calibrating or (self.training and self.observer_enabled):
            self.observe(x)
        if self.is_calibrating or not self.num_observed:
            return x
        scale, zero_point = self.grid()
        rounded = torch.fake_quantize_per_tensor_affine(
            x.float(), scale, zero_point, 0, NUM_LEVELS - 1
        )
        return rounded.to(x.dtype)

    @torch.no_grad()
    def observe(self, x: Tensor) -> None:
        """Widen or narrow the range, in place, towards the extremes of ``x``."""
        if x.numel() == 0:
            return
        self.num_observed += 1
        share = (1.0 / self.num_observed).clamp_min(_AVERAGING)
        for average, extreme in zip(
            (self.min_value, self.max_value), torch.aminmax(x.detach().float()), strict=True
        ):
            average += share * (extreme - average)

    def grid(self) -> tuple[Tensor, Tensor]:
        """Scale (float32) and zero point (int32); 0.0 is always on the grid."""
        low, high = self.min_value.clamp_max(0.0), self.max_value.clamp_min(0.0)
        scale = ((high - low) / (NUM_LEVELS - 1)).clamp_min(torch.finfo(torch.float32).eps)
        zero_point = (-low / scale).round().clamp(0, NUM_LEVELS - 1)
        return scale, zero_point.to(torch.int32)

    def reset(self) -> None:
        """Forget every observation."""
        for buffer in (self.min_value, self.max_value, self.num_observed):
            buffer.zero_()


def quantize_parametrized(weight: nn.Module) -> tuple[Tensor, Tensor]:
    """Integers [filters, ...] and scales of a weight, from its list of parametrizations."""
    quantizer, original = weight.get_submodule("0"), weight.original
    assert isinstance(quantizer, WeightFakeQuantizer)
    assert isinstance(original, Tensor)
    return quantizer.scheme.quantize_weight(quantizer.layout.filters_first(original))


def activation_fake_quantizers(network: nn.Module) -> dict[str, ActivationFakeQuantizer]:
    """All of them in ``network``, by name."""
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, ActivationFakeQuantizer)
    }


def freeze_observers(network: nn.Module) -> None:
    """Keep the ranges of all activations as they are from now on."""
    for quantizer in activation_fake_quantizers(network).values():
        quantizer.observer_enabled.zero_()


class _StraightThrough(torch.autograd.Function):
    """The second argument forward, the identity on the first backward."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, rounded: Tensor) -> Tensor:
        return rounded

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None
