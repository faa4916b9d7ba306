"""Why each layer has the bits that it has: the splits that were tried, what each choice does."""

from collections.abc import Mapping, Sequence
from typing import Any

from lightning_cost.cost.resource import Resource
from lightning_cost.report.markup import Markup, element, path_name, section, table
from lightning_cost.report.quantities import UNKNOWN, figures, label, percent, quantity

_HINT = (
    "Harm: the error of the network's output, as a share of the output in squares, when this "
    "layer's weights alone are rounded. The choice has the least sum of harms within the budget."
)
_SPLITS = (
    "How the budget was shared between channels and bits: for each choice of bits channels went "
    "until the budget was kept; the split with the least loss right after the cut was taken."
)
_LAYERS = "The network that came out of recovery: what each layer has, and could have had."


def bits(report: Mapping[str, Any]) -> Markup | None:
    """The splits of the budget, and every layer's scheme beside what else it could have had."""
    record = report["quantization"]
    if record is None or record["choice"] is None:
        return None
    choice = record["choice"]
    resources = list(choice["limits"])
    parts: list[Markup] = []
    if choice["splits"]:
        parts.append(element("p", _SPLITS, class_="aside"))
        header = ["schemes", *(f"{label(name)}, all channels" for name in resources)]
        header += ["channels kept", "MACs", "loss", ""]
        rows = [_split(split, resources) for split in choice["splits"]]
        parts.append(table(header, rows, "splits"))
        parts.append(element("p", _LAYERS, class_="aside"))
    header = ["layer", "scheme", "harm", *map(label, resources), "instead"]
    rows = [_layer(name, options, resources) for name, options in choice["options"].items()]
    parts.append(table(header, rows, "bits"))
    return section("Bits of each layer", *parts, hint=_HINT)


def _split(split: Mapping[str, Any], resources: Sequence[str]) -> list[str]:
    loss = split["loss"]
    return [
        ", ".join(f"{count} {scheme}" for scheme, count in split["schemes"].items()),
        *(_amount(split["costs"][name], name) for name in resources),
        percent(split["keep_ratio"]) if "keep_ratio" in split else UNKNOWN,
        quantity(split["macs"], Resource.macs.unit) if "macs" in split else UNKNOWN,
        "out of reach" if loss is None else figures(loss),
        "chosen" if split["is_chosen"] else "",
    ]


def _layer(name: str, options: Sequence[Mapping[str, Any]], resources: Sequence[str]) -> list[str]:
    chosen = next(option for option in options if option["is_chosen"])
    others = [
        f"{option['scheme']}: harm {_harm(option['harm'])}"
        + "".join(f", {_amount(option['costs'][each], each)}" for each in resources)
        for option in options
        if not option["is_chosen"]
    ]
    return [
        path_name(name),
        chosen["scheme"],
        _harm(chosen["harm"]),
        *(_amount(chosen["costs"][each], each) for each in resources),
        "; ".join(others) or "nothing else",
    ]


def _harm(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.2g}"


def _amount(value: float, name: str) -> str:
    return quantity(value, Resource(name).unit)
