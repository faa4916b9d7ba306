"""Weights and biases rounded in floating point, so that a network can train for integers."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from typing_extensions import override

from lightning_cost.network.filters import FilterLayout
from lightning_cost.quantization.bias import quantize_bias
from lightning_cost.quantization.fake_quantizers import ActivationFakeQuantizer, InFloat32
from lightning_cost.quantization.norms import FoldableNorm
from lightning_cost.quantization.rounding import straight_through
from lightning_cost.quantization.schemes.filters import per_filter
from lightning_cost.quantization.schemes.scheme import Scheme


class Rounded(NamedTuple):
    """A weight on its grid.

    Args:
        weight: In floating point, with a gradient.
        values: The same as int8.
        scale: Of each filter; ``values`` times it is ``weight``.
    """

    weight: Tensor
    values: Tensor
    scale: Tensor


class Rounding(InFloat32, ABC):
    """How a layer's weight gets onto the grid of its scheme while it trains.

    Args:
        scheme: The grid.
        weight: Of shape [filters, ...].
        fits: Whether scales are those that suit ``weight``. Otherwise they are one, and to be
            loaded.
    """

    def __init__(self, scheme: Scheme, weight: Tensor, *, fits: bool = True) -> None:
        super().__init__()
        self.scheme = scheme

    @property
    def weight_bits(self) -> float:
        """Bits of one weight, the mean where filters differ."""
        return self.scheme.weight_bits

    @abstractmethod
    def forward(self, weight: Tensor) -> Rounded:
        """The weight [filters, ...] rounded, with a gradient for what trains."""

    @abstractmethod
    def scale_of(self, weight: Tensor) -> Tensor:
        """The scale of each filter, [filters], in evaluation mode; nothing is changed."""


class FittedScale(Rounding):
    """Rounds to the grid of a scheme; the scales follow the weights by the scheme's own rule."""

    scale: Tensor

    def __init__(self, scheme: Scheme, weight: Tensor, *, fits: bool = True) -> None:
        super().__init__(scheme, weight, fits=fits)
        self.register_buffer("scale", first_scale(scheme, weight, fits=fits))

    @override
    def forward(self, weight: Tensor) -> Rounded:
        """The weight [filters, ...] rounded; the gradient passes as if it had not been."""
        scale = self.scheme.fit_scale(weight, self.scale)
        if self.training:
            self.scale.copy_(scale)
        values, _ = self.scheme.quantize_weight(weight, scale)
        rounded = (values * per_filter(scale, weight)).to(weight.dtype)
        return Rounded(straight_through(weight, rounded), values, scale)

    @override
    def scale_of(self, weight: Tensor) -> Tensor:
        return self.scheme.fit_scale(weight, self.scale)


class LearnedScale(Rounding):
    """Rounds to the grid of a scheme with scales that are trained.

    The gradient of a scale says whether its filter's rounding errors would shrink or its clipped
    weights come closer; it is divided by the root of the filter's size times the largest level.

    Reference:
        Esser et al., "Learned Step Size Quantization", ICLR 2020, equations 3 and 5.
    """

    def __init__(self, scheme: Scheme, weight: Tensor, *, fits: bool = True) -> None:
        super().__init__(scheme, weight, fits=fits)
        self.scale = nn.Parameter(first_scale(scheme, weight, fits=fits))

    @override
    def forward(self, weight: Tensor) -> Rounded:
        """The weight [filters, ...] rounded, with a gradient for weight and scale."""
        scale = self.scale_of(weight)
        values, _ = self.scheme.quantize_weight(weight, scale)
        limit = self.scheme.levels[-1]
        rounded: Tensor = _LearnedStep.apply(weight, self.scale, scale, values, limit)  # type: ignore[no-untyped-call]
        return Rounded(rounded, values, scale)

    @override
    def scale_of(self, weight: Tensor) -> Tensor:
        return self.scale.detach().abs().clamp_min(torch.finfo(torch.float32).eps)


class WeightFakeQuantizer(nn.Module):
    """Puts a weight on the grid of a scheme, with its batch norm where that is folded.

    A parametrization, for ``torch.nn.utils.parametrize.register_parametrization``.

    Args:
        rounding: To the grid, without a batch norm.
        norm: What is folded into the layer.
        layout: Where the layer's filters lie in its weight.
    """

    def __init__(
        self,
        rounding: Rounding,
        norm: FoldableNorm | None = None,
        layout: FilterLayout | None = None,
    ) -> None:
        super().__init__()
        self.rounding = rounding
        self.layout = layout or FilterLayout()
        # in a tuple, so that it does not become a child of this module too
        self._norm = (norm,)

    @property
    def norm(self) -> FoldableNorm | None:
        """What is folded into the layer."""
        return self._norm[0]

    @override
    def forward(self, weight: Tensor) -> Tensor:
        """The weight, as its layer holds it, rounded, in its own dtype."""
        return self.layout.as_held(self.round(self.layout.filters_first(weight)).weight)

    def round(self, weight: Tensor) -> Rounded:
        """The weight [filters, ...] on its grid, times its batch norm's scale if that is folded."""
        rounded: Rounded = self.rounding(weight)
        if self.norm is None or not self.norm.is_folded:
            return rounded
        factor = self.norm.scale()
        sign = torch.where(factor < 0, -1, 1).to(torch.int8)
        values = rounded.values * per_filter(sign, weight)
        scale = _folded(rounded.scale, factor)
        exact = (values * per_filter(scale, weight)).to(weight.dtype)
        product = rounded.weight * per_filter(factor, weight).to(weight.dtype)
        return Rounded(straight_through(product, exact), values, scale)

    @torch.no_grad()
    def scale_of(self, weight: Tensor) -> Tensor:
        """The scale [filters] that :meth:`round` gives in evaluation mode; nothing is changed."""
        scale = self.rounding.scale_of(weight)
        if self.norm is None or not self.norm.is_folded:
            return scale
        return _folded(scale, self.norm.scale())


class BiasFakeQuantizer(nn.Module):
    """Puts a bias on the grid in which an integer layer adds it; the gradient passes.

    A parametrization of the bias. The grid follows from those of the layer's weight and input,
    which other modules own. While a batch norm normalises by itself the bias passes as it is.
    """

    def __init__(self, weight: nn.Module, source: ActivationFakeQuantizer) -> None:
        super().__init__()
        # in a tuple, so that they do not become children of this module too
        self._owners = (weight, source)

    @override
    def forward(self, bias: Tensor) -> Tensor:
        """The bias [filters] rounded, in its own dtype."""
        weight, source = self._owners
        quantizer, original = parametrized(weight)
        norm = quantizer.norm
        if norm is not None:
            if not norm.is_folded:
                return bias
            bias = norm.shift(bias)
        if source.is_calibrating or not source.num_observed:
            return bias
        scale = quantizer.scale_of(original.detach())
        values, step = quantize_bias(bias, weight_scale=scale, input_scale=source.grid()[0])
        return straight_through(bias, (values * step).to(bias.dtype))


def first_scale(scheme: Scheme, weight: Tensor, *, fits: bool) -> Tensor:
    """The scales [filters] that a rounding begins with; see :class:`Rounding`."""
    return scheme.fit_scale(weight) if fits else torch.ones(len(weight), device=weight.device)


def parametrized(weight: nn.Module) -> tuple[WeightFakeQuantizer, Tensor]:
    """The quantiser and the unrounded weight [filters, ...] in a list of parametrizations."""
    quantizer, original = weight.get_submodule("0"), weight.original
    assert isinstance(quantizer, WeightFakeQuantizer)
    assert isinstance(original, Tensor)
    return quantizer, quantizer.layout.filters_first(original)


def _folded(scale: Tensor, factor: Tensor) -> Tensor:
    tiny = torch.finfo(torch.float32).eps ** 2
    return (scale * factor.detach().abs().float()).clamp_min(tiny)


def quantized_weights(
    network: nn.Module,
) -> Iterator[tuple[str, WeightFakeQuantizer, Tensor]]:
    """Each layer of ``network`` with a quantised weight: name, quantiser, unrounded weight.

    The weight is [filters, ...], a view of the parameter.
    """
    for name, module in network.named_modules():
        if parametrize.is_parametrized(module, "weight"):
            originals = module.get_submodule("parametrizations.weight")
            if isinstance(originals.get_submodule("0"), WeightFakeQuantizer):
                yield name, *parametrized(originals)


class _LearnedStep(torch.autograd.Function):
    """Levels times scale forward; straight through to the weight, equation 3 to the raw scale."""

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, raw: Tensor, scale: Tensor, values: Tensor, limit: int
    ) -> Tensor:
        ctx.save_for_backward(weight, raw, scale, values)
        ctx.limit = limit
        return (values * per_filter(scale, weight)).to(weight.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        weight, raw, scale, values = ctx.saved_tensors
        ratio = weight.float() / per_filter(scale, weight)
        is_inside = ratio.abs() <= ctx.limit
        slope = values.float() - torch.where(is_inside, ratio, 0)
        size = weight[0].numel() * ctx.limit
        to_scale = (gradient.float() * slope).flatten(1).sum(1) / size**0.5
        # the scale is the magnitude of what is trained, which a step may take below zero
        to_raw = torch.where(raw < 0, -to_scale, to_scale)
        return gradient * is_inside, to_raw, None, None, None
