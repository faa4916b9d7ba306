"""Filters of zero, one or two powers of two: thresholds learn which, a budget holds."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from lightning_cost.quantization.schemes.filters import per_filter
from lightning_cost.quantization.schemes.flightnn import MOST_TERMS, FLightNN
from lightning_cost.quantization.schemes.nearest import (
    fitted_scale,
    nearest_levels,
    refitted_scales,
)
from lightning_cost.quantization.schemes.powers import BITS_OF_TERM
from lightning_cost.quantization.weights import Rounded, Rounding

# of the gate's slope, in units of the logarithm that it compares
_TEMPERATURE = 0.1


class ChosenTerms(Rounding):
    """Rounds each filter to as many powers of two for each weight as it was given.

    A filter asks for its next term by its margin: the logarithm of the root mean square of what
    rounding has left of it so far, relative to the norm of the layer's weights, minus a threshold,
    which is trained: where another term would lower the loss, it falls. :func:`assign_terms`
    grants. Relative to the norm, since it is shares of layers, not of weights, that add up to the
    error of a network: terms go first to layers of few weights, where they cost least.

    Reference:
        Ding et al., "FLightNNs", DAC 2019. Margins are relative, the gate that is granted and not
        the bare comparison decides, and sums are the nearest ones; so a filter's gates have
        gradients of their own.
    """

    num_terms: Tensor
    scheme: FLightNN
    scales: Tensor
    bar: Tensor

    def __init__(self, scheme: FLightNN, weight: Tensor, *, fits: bool = True) -> None:
        super().__init__(scheme, weight, fits=fits)
        self._levels = [scheme.levels_of(num_terms + 1) for num_terms in range(MOST_TERMS)]
        scales = torch.ones(MOST_TERMS, len(weight), device=weight.device)
        if fits:
            scales = torch.stack([fitted_scale(weight, levels) for levels in self._levels])
        self.register_buffer("scales", scales)
        most = torch.full((len(weight),), MOST_TERMS, dtype=torch.int8, device=weight.device)
        self.register_buffer("num_terms", most)
        self.register_buffer("bar", torch.zeros((), device=weight.device))
        self.thresholds = nn.Parameter(torch.zeros(MOST_TERMS, len(weight), device=weight.device))

    @property
    @override
    def weight_bits(self) -> float:
        return BITS_OF_TERM * float(self.num_terms.float().mean())

    @override
    def forward(self, weight: Tensor) -> Rounded:
        """The weight [filters, ...] rounded, with a gradient for weight and thresholds."""
        scales = self._fitted(weight)
        if self.training:
            self.scales.copy_(scales)
        with torch.no_grad():
            values = [
                nearest_levels(weight, *each) for each in zip(scales, self._levels, strict=True)
            ]
            terms = [
                (each * per_filter(scale, weight)).to(weight.dtype)
                for each, scale in zip(values, scales, strict=True)
            ]
            asked = _margins(weight, terms[:-1]) - self.thresholds - self.bar
            chosen = torch.zeros_like(values[0])
            for index, each in enumerate(values):
                chosen = each.where(per_filter(self.num_terms > index, weight), chosen)
            scale = self._chosen(scales)
            exact = (chosen * per_filter(scale, weight)).to(weight.dtype)
        rounded: Tensor = _Granted.apply(  # type: ignore[no-untyped-call]
            weight, self.thresholds, exact, asked, self.num_terms > 0, terms
        )
        return Rounded(rounded, chosen, scale)

    @override
    @torch.no_grad()
    def scale_of(self, weight: Tensor) -> Tensor:
        return self._chosen(self._fitted(weight))

    @torch.no_grad()
    def margins(self, weight: Tensor) -> Tensor:
        """What each filter lacks before each term, as a logarithm, [terms, filters].

        Relative to the norm of the layer's weights, before the threshold is taken off.
        """
        fitted = zip(self._fitted(weight)[:-1], self._levels[:-1], strict=True)
        rounded = [
            nearest_levels(weight, scale, levels) * per_filter(scale, weight)
            for scale, levels in fitted
        ]
        return _margins(weight, rounded)

    def _fitted(self, weight: Tensor) -> Tensor:
        return torch.stack(refitted_scales(weight, self._levels, self.scales))

    def _chosen(self, scales: Tensor) -> Tensor:
        """Of [terms, filters] each filter's own; that of one term where it has none."""
        index = (self.num_terms.long() - 1).clamp_min(0)
        return scales.gather(0, index[None])[0]


@torch.no_grad()
def _margins(weight: Tensor, rounded: Sequence[Tensor]) -> Tensor:
    """As :meth:`ChosenTerms.margins`, from the weight as fewer terms round it."""
    tiny = torch.finfo(torch.float32).tiny
    flat = weight.detach().float()
    # in units of the largest weight, as squares overflow early
    largest = flat.abs().max().clamp_min(tiny)
    unit = flat / largest
    left = [unit, *((flat - each).div_(largest) for each in rounded)]
    roots = torch.stack([each.flatten(1).square().mean(1).sqrt() for each in left])
    # a norm is 1 or more here, but for a layer of zeros, which so asks for nothing
    return ((roots + tiny) / unit.square().sum().sqrt().clamp_min(1.0)).log()


@torch.no_grad()
def assign_terms(quantized: dict[str, tuple[ChosenTerms, Tensor]]) -> None:
    """Grant terms to the filters with the widest margins until the budget is used up, in place.

    Layers that share a scheme share its budget: the mean number of terms over all their weights
    never exceeds ``mean_terms``, and falls short of it by less than one filter. Equal margins are
    granted in the order of layers and filters, and a filter's second term never before its first.

    Args:
        quantized: For each layer, its rounding and its unrounded weight.
    """
    by_mean: dict[float, list[tuple[ChosenTerms, Tensor]]] = {}
    for rounding, weight in quantized.values():
        by_mean.setdefault(rounding.scheme.mean_terms, []).append((rounding, weight))
    for mean_terms, layers in by_mean.items():
        _assign(layers, mean_terms)


def _assign(layers: list[tuple[ChosenTerms, Tensor]], mean_terms: float) -> None:
    margins = [each.margins(weight) - each.thresholds for each, weight in layers]
    # [filters, terms] of all layers after one another; a term never before the one below it
    asked = torch.cat([margin.cummin(0).values.T for margin in margins])
    sizes = torch.cat(
        [torch.full((len(weight),), weight[0].numel(), device=asked.device) for _, weight in layers]
    )
    order = asked.flatten().argsort(descending=True, stable=True)
    spent = sizes.repeat_interleave(MOST_TERMS)[order].cumsum(0)
    num_granted = int((spent <= mean_terms * int(sizes.sum())).sum())
    is_granted = torch.zeros(len(order), dtype=torch.bool, device=asked.device)
    is_granted[order[:num_granted]] = True
    num_terms = is_granted.reshape(asked.shape).sum(1).to(torch.int8)
    bar = asked.flatten()[order[min(num_granted, len(order) - 1)]]
    ends = torch.tensor([len(weight) for _, weight in layers]).cumsum(0)[:-1].tolist()
    for (each, _), terms in zip(layers, num_terms.tensor_split(ends), strict=True):
        each.num_terms.copy_(terms)
        each.bar.copy_(bar)


class _Granted(torch.autograd.Function):
    """The rounded weight forward; straight through to the weight backward, and to thresholds.

    A threshold's gradient is what its term adds, along the loss, times the slope of a sigmoid at
    what the filter asked for, as if a gate had opened. The weight of a filter that has no term has
    none. ``terms`` are the weight as one term rounds it, as two do, and so on.
    """

    @staticmethod
    def forward(
        ctx: Any,
        weight: Tensor,
        thresholds: Tensor,
        exact: Tensor,
        asked: Tensor,
        is_alive: Tensor,
        terms: Sequence[Tensor],
    ) -> Tensor:
        ctx.save_for_backward(asked, is_alive, *terms)
        return exact

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        asked, is_alive, *terms = ctx.saved_tensors
        steps = [terms[0], *(more - fewer for fewer, more in pairwise(terms))]
        others = tuple(range(1, gradient.dim()))
        to_gates = torch.stack([(gradient * step).sum(others) for step in steps])
        asked = asked / _TEMPERATURE
        # a product, as a difference from 1 would be 0 for what is granted by far
        slope = asked.sigmoid() * (-asked).sigmoid() / _TEMPERATURE
        to_thresholds = -(to_gates * slope)
        return gradient * per_filter(is_alive, gradient), to_thresholds, None, None, None, None
