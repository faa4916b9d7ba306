"""How much rounding one layer's weight changes what a network gives."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lightning_cost.cost.duplicate import duplicated
from lightning_cost.cost.forward import observing, tensors_of
from lightning_cost.network.filters import FilterLayout
from lightning_cost.quantization.schemes.flightnn import FLightNN
from lightning_cost.quantization.schemes.scheme import Scheme
from lightning_cost.quantization.terms import ChosenTerms, assign_terms
from lightning_cost.quantization.weights import FittedScale, Rounding


@torch.no_grad()
def rounding_harms(
    network: nn.Module,
    choices: Mapping[str, Sequence[Scheme]],
    forward: Callable[[nn.Module], Any],
) -> dict[str, list[float]]:
    """The error of a network's output when one layer's weight alone is rounded.

    Errors are the sum of squares over all outputs, as a share of the outputs' own. Those of
    different layers add up as long as they are small, being about independent: the idea behind
    choosing bits by the sensitivity of layers (Dong et al., "HAWQ", ICCV 2019; Cai et al.,
    "ZeroQ", CVPR 2020), measured instead of taken from second derivatives.

    Args:
        network: In floating point; left as it was found.
        choices: The schemes of each layer, by its name.
        forward: Sends data through a network; what the network returns is looked at, also of
            several calls.

    Returns:
        For each layer one number for each of its schemes; infinite where an output is not finite.

    Raises:
        ValueError: If the network gives nothing in floating point, or NaN without any rounding.
    """
    with observing(network):
        exact = _outputs(network, forward)
        total = _squares(exact)
        if not (exact and math.isfinite(total) and total > 0):
            raise ValueError(
                "network must give finite numbers, not all 0, for bits to be chosen by what "
                f"rounding does to them, got a sum of squares of {total}; give each layer its "
                "scheme by quantization.overrides"
            )
        harms: dict[str, list[float]] = {}
        for name, schemes in choices.items():
            harms[name] = []
            for scheme in schemes:
                with _rounded(network.get_submodule(name), scheme):
                    given = _outputs(network, forward)
                error = _squares([one - other for one, other in zip(given, exact, strict=True)])
                harms[name].append(error / total if math.isfinite(error) else math.inf)
    return harms


def with_rounded_weights(network: nn.Module, schemes: Mapping[str, Scheme]) -> nn.Module:
    """A copy of ``network`` in floating point with the weights of layers rounded, by name."""
    rounded = duplicated(network)
    for name, scheme in schemes.items():
        _round_in_place(rounded.get_submodule(name), scheme)
    return rounded


def rounded_weight(weight: Tensor, scheme: Scheme) -> Tensor:
    """``weight`` [filters, ...] on the grid of ``scheme``, in floating point.

    >>> from lightning_cost.quantization.schemes.uniform import LowBit
    >>> rounded_weight(torch.tensor([[3.0, -1.0, 0.4, 2.1]]), LowBit(bits=3)).round().tolist()
    [[3.0, -1.0, 0.0, 2.0]]
    """
    weight = weight.detach()
    rounding: Rounding
    if isinstance(scheme, FLightNN):
        rounding = ChosenTerms(scheme, weight)
        assign_terms({"": (rounding, weight)})
    else:
        rounding = FittedScale(scheme, weight)
    rounded: Tensor = rounding.eval()(weight).weight
    return rounded.detach()


def _outputs(network: nn.Module, forward: Callable[[nn.Module], Any]) -> list[Tensor]:
    found: list[Tensor] = []

    def catch(module: nn.Module, args: Any, output: Any) -> None:
        found.extend(
            each.detach().clone() for each in tensors_of(output) if each.is_floating_point()
        )

    handle = network.register_forward_hook(catch)
    try:
        forward(network)
    finally:
        handle.remove()
    return found


def _squares(tensors: Sequence[Tensor]) -> float:
    return sum(float(each.double().square().sum()) for each in tensors)


@contextmanager
def _rounded(layer: nn.Module, scheme: Scheme) -> Iterator[None]:
    kept = _weight_of(layer).detach().clone()
    _round_in_place(layer, scheme)
    try:
        yield
    finally:
        _weight_of(layer).data.copy_(kept)


def _round_in_place(layer: nn.Module, scheme: Scheme) -> None:
    layout, held = FilterLayout.of(layer), _weight_of(layer)
    rounded = rounded_weight(layout.filters_first(held.detach()), scheme)
    held.data.copy_(layout.as_held(rounded))


def _weight_of(layer: nn.Module) -> Tensor:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight
