"""What quantisation made of the network: schemes, size on disk, what training gained."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from lightning_cost.report.markup import Markup, join, pairs, section
from lightning_cost.report.quantities import UNKNOWN, figures, metric_value, quantity
from lightning_cost.report.sections import how

_HINT = (
    "Weights that are powers of two run as int8 on CPUs and GPUs, no faster than int8; hardware "
    "that shifts and adds in place of multiplying saves energy by them."
)
_UNTRAINED = (
    "Integers of as many bits are to be compared with what was calibrated only: neither was "
    "trained with rounding. Their latency was not measured; powers of two run as such integers."
)
_SHIFTING = {"power_of_two", "flightnn", "apot"}


def quantization(report: Mapping[str, Any]) -> Markup | None:
    """Schemes, the packed file beside float32, and what training with rounding gained."""
    record = report["quantization"]
    if record is None:
        return None
    sizes, energy = record["size_bytes"], record["energy_mj"]
    schemes = Counter(layer["scheme"] for layer in record["layers"])
    packed = (
        f"{quantity(sizes['packed'], 'B')}, {figures(sizes['dense'] / sizes['packed'])} times "
        f"smaller than the dense network in float32 ({quantity(sizes['dense'], 'B')}) "
    )
    spent = (
        f"{quantity(energy['multiplying'], 'mJ')} with multipliers, "
        f"{quantity(energy['shift_add'], 'mJ')} with units that shift and add in their place "
        f"({energy['model']}) "
    )
    facts = [
        ("schemes", ", ".join(f"{scheme} in {count} layers" for scheme, count in schemes.items())),
        ("packed file", join([packed, how("measured")])),
        ("calibrated only", join([_accuracies(record["calibrated"]), " ", how("measured")])),
        *_integers(record["integers"]),
        ("trained with rounding", join([_accuracies(record["trained"]), " ", how("measured")])),
        ("energy", join([spent, how("estimated")])),
    ]
    left = [f"{name}: {why}" for name, why in record["left_float"].items()]
    if left:
        facts.append(("left in floating point", "; ".join(left)))
    hints = [_HINT] if set(schemes) & _SHIFTING else []
    hints += [_UNTRAINED] if record["integers"] is not None else []
    return section("Quantisation", pairs(facts), hint=" ".join(hints))


def _integers(record: Mapping[str, Any] | None) -> list[tuple[str, Markup]]:
    """What integers of as many bits do, where weights are sums of powers of two."""
    if record is None:
        return []
    told = (
        f"{_accuracies(record['calibrated'])} in {quantity(record['formula'], 'B')} by the formula "
    )
    return [("integers of as many bits, calibrated only", join([told, how("measured")]))]


def _accuracies(metrics: Mapping[str, float] | None) -> str:
    if metrics is None:
        return UNKNOWN
    return ", ".join(f"{name} {metric_value(name, value)}" for name, value in metrics.items())
