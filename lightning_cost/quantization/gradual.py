"""Weights that are rounded a few at a time, the largest first, while the others go on training."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from typing_extensions import override

from lightning_cost.quantization.rounding import straight_through
from lightning_cost.quantization.schemes.filters import per_filter
from lightning_cost.quantization.schemes.scheme import Scheme
from lightning_cost.quantization.weights import (
    Rounded,
    Rounding,
    first_scale,
    quantized_weights,
)


class GradualRounding(Rounding):
    """Rounds the weights that were chosen so far, for good; the others train in floating point.

    What is chosen stays on the level that it had then, on the grid that suited the trained network,
    and has no gradient any more: the others learn to make up for its error. In evaluation all are
    rounded, which is what is deployed.

    Reference:
        Zhou et al., "Incremental Network Quantization: Towards Lossless CNNs with Low-Precision
        Weights", ICLR 2017.
    """

    scale: Tensor
    values: Tensor
    is_rounded: Tensor

    def __init__(self, scheme: Scheme, weight: Tensor, *, fits: bool = True) -> None:
        super().__init__(scheme, weight, fits=fits)
        self.register_buffer("scale", first_scale(scheme, weight, fits=fits))
        # in floating point: averages of weights average this too, and would truncate integers
        self.register_buffer("values", torch.zeros_like(weight, dtype=torch.float32))
        self.register_buffer("is_rounded", torch.zeros_like(weight, dtype=torch.bool))

    @override
    def forward(self, weight: Tensor) -> Rounded:
        """The weight [filters, ...], with a gradient where it is not rounded for good."""
        values = self._levels_of(weight)
        exact = (values * per_filter(self.scale, weight)).to(weight.dtype)
        trained = torch.where(self.is_rounded, exact, weight)
        if not self.training:
            trained = straight_through(trained, exact)
        return Rounded(trained, values, self.scale)

    @torch.no_grad()
    def round_largest(self, weight: Tensor, share: float) -> None:
        """Choose the largest of the weights that are left until ``share`` of all are rounded."""
        values = self._levels_of(weight)
        # in units of their grids, as filters differ in size; what is rounded already comes first
        size = (weight.detach().float() / per_filter(self.scale, weight)).abs()
        size = torch.where(self.is_rounded, torch.inf, size).flatten()
        chosen = size.argsort(descending=True, stable=True)[: round(share * len(size))]
        mask = self.is_rounded.flatten()  # a copy where the weight lies channels last
        mask[chosen] = True
        self.is_rounded.copy_(mask.view_as(self.is_rounded))
        self.values.copy_(torch.where(self.is_rounded, values, 0))

    @override
    def scale_of(self, weight: Tensor) -> Tensor:
        return self.scale

    def _levels_of(self, weight: Tensor) -> Tensor:
        values, _ = self.scheme.quantize_weight(weight, self.scale)
        return torch.where(self.is_rounded, self.values.round().to(values.dtype), values)


def round_largest(network: nn.Module, share: float, copies: Iterable[nn.Module] = ()) -> None:
    """Round ``share`` of each layer's weights for good, in place; see :class:`GradualRounding`.

    Args:
        network: Prepared for gradual quantisation.
        share: In (0, 1]; what was rounded before counts.
        copies: Averaged copies of ``network``, in which the same weights get the same levels.
    """
    for rounding, weight in _gradual(network):
        rounding.round_largest(weight, share)
    for copy in copies:
        for (target, _), (source, _) in zip(_gradual(copy), _gradual(network), strict=True):
            target.load_state_dict(source.state_dict())


def _gradual(network: nn.Module) -> Iterator[tuple[GradualRounding, Tensor]]:
    for _, quantizer, weight in quantized_weights(network):
        if isinstance(quantizer.rounding, GradualRounding):
            yield quantizer.rounding, weight
