"""What quantisation would do to a network, found in one forward pass."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from lightning_cost.cost.duplicate import duplicated
from lightning_cost.cost.forward import Example
from lightning_cost.network.attention import open_attention
from lightning_cost.network.dataflow import trace_dataflow
from lightning_cost.network.filters import FilterLayout
from lightning_cost.network.folding import pairs_in
from lightning_cost.quantization.placement import attentions, place
from lightning_cost.quantization.prepare import PrepareQuantization, is_prepared
from lightning_cost.quantization.rules import QuantizationRules
from lightning_cost.quantization.schemes.assignment import assign_schemes, with_reduced_range
from lightning_cost.quantization.schemes.flightnn import FLightNN
from lightning_cost.quantization.schemes.registry import get_scheme
from lightning_cost.quantization.schemes.scheme import Scheme


def plan_quantization(
    network: nn.Module,
    example: Example,
    scheme: Scheme | str | Mapping[str, Any] = "int8",
    rules: QuantizationRules | None = None,
    *,
    reduced_range: bool = False,
) -> PrepareQuantization:
    """Plan the preparation of ``network`` from one forward pass; it is left as it was found.

    Args:
        network: In floating point, on any device.
        example: What one forward pass takes.
        scheme: The grid of the weights, its name, or a mapping of its name and settings. With
            fewer than 8 bits the first and the last layer get ``int8``.
        rules: Which layers are quantised how, and how their grids are found.
        reduced_range: Whether integer weights keep within ±64, for a machine on which larger
            products overflow; see ``quantization.saturation``.

    Raises:
        ValueError: If a name is unknown or a pattern matches nothing, if nothing is left to
            quantise, if the network is prepared already, or if ``flightnn`` meets
            ``rules.gradual``.

    >>> import torch
    >>> network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(),
    ...                         nn.Linear(8, 2))
    >>> change = plan_quantization(network, torch.zeros(1, 1, 4, 4))
    >>> change.folded, change.sources
    ((('0', '1'),), {'0': '0', '4': '3'})
    """
    rules = rules or QuantizationRules()
    if is_prepared(network):
        raise ValueError(
            "network must not be prepared for quantisation twice, got one with fake quantisers; "
            "plan for a fresh network"
        )
    dataflow = trace_dataflow(network, example)
    opened = attentions(network, dataflow, rules.exclude)
    if opened:
        network = duplicated(network)
        for name, is_self in opened.items():
            open_attention(network, name, is_self=is_self)
        dataflow = trace_dataflow(network, example)
    pairs = pairs_in(dataflow, network)
    placement = place(network, dataflow, dict(pairs), rules.exclude)
    if not placement.sources and not placement.tables:
        listed = "; ".join(f"{name}: {why}" for name, why in placement.left_float.items())
        raise ValueError(
            "network must have a convolution or linear layer to quantise, got none "
            f"({listed or 'no weights'}); exclude less, or do not quantise it"
        )
    called = dict.fromkeys(call.module for call in dataflow.calls)
    schemes = assign_schemes(
        [name for name in called if name in placement.sources or name in placement.tables],
        get_scheme(scheme),
        {pattern: get_scheme(each) for pattern, each in rules.overrides.items()},
    )
    if reduced_range:
        schemes = {name: with_reduced_range(each) for name, each in schemes.items()}
    schemes = _within_bytes(network, schemes)
    _require_fixed_terms(schemes, rules)
    return PrepareQuantization(
        schemes=schemes,
        folded=tuple(pair for pair in pairs if pair[0] in placement.sources),
        sources=placement.sources,
        tables=placement.tables,
        outputs=placement.outputs,
        attentions=opened,
        left_float=placement.left_float,
        learns_scales=rules.learns_scales,
        is_gradual=bool(rules.gradual),
        observer=rules.observer,
    )


def _within_bytes(network: nn.Module, schemes: dict[str, Scheme]) -> dict[str, Scheme]:
    """``schemes``, those with a limit in bytes as the layers that share it leave room for."""
    fitted = dict(schemes)
    for limited in {id(each): each for each in schemes.values()}.values():
        if not isinstance(limited, FLightNN) or limited.max_bytes is None:
            continue
        sharing = [name for name, scheme in schemes.items() if scheme == limited]
        within = limited.within_bytes([_filters(network.get_submodule(name)) for name in sharing])
        fitted.update(dict.fromkeys(sharing, within))
    return fitted


def _filters(layer: nn.Module) -> tuple[int, int]:
    """The number of filters, and of the weights of one."""
    assert isinstance(layer.weight, Tensor)
    filters = FilterLayout.of(layer).filters_first(layer.weight)
    return len(filters), filters[0].numel()


def _require_fixed_terms(schemes: Mapping[str, Scheme], rules: QuantizationRules) -> None:
    choosing = [name for name, scheme in schemes.items() if isinstance(scheme, FLightNN)]
    if rules.gradual and choosing:
        raise ValueError(
            "gradual must be empty where a scheme decides on terms during training, got flightnn "
            f"for {', '.join(choosing)}; take power_of_two or leave gradual out"
        )
