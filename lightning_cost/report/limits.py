"""The budgets of a run against what was reached and spent."""

import math
from collections.abc import Mapping
from typing import Any

from lightning_cost.cost.measurement import Cost
from lightning_cost.cost.resource import Resource
from lightning_cost.report.spend import all_flops


def broken_limits(report: Mapping[str, Any]) -> list[str]:
    """One sentence for each limit, of the model or of the training, that was not kept."""
    return [
        f"{name} must be <= {entry['limit']:,.10g} {entry['unit']}, got "
        + (entry["reason"] or f"{entry['value']:,.10g} {entry['unit']}")
        for section in ("budget", "training_budget")
        for name, entry in report[section].items()
        if not entry["kept"]
    ]


def broken_parity(report: Mapping[str, Any]) -> str | None:
    """In what the deployed file differs from what was trained.

    Returns:
        ``None`` where it does not, or was not compared.
    """
    parity = report["parity"]
    if parity is None or parity["passed"]:
        return None
    return (
        f"on {parity.get('runtime') or 'its runtime'} the file computes something else than the "
        f"trained network: largest error {parity['max_abs_error']}, output range "
        f"{parity['output_range']}, share of equal predictions {parity['top1_agreement']}"
    )


def keeps_its_word(report: Mapping[str, Any]) -> bool:
    """Whether every limit is kept, and the deployed file computes what was trained."""
    return not broken_limits(report) and broken_parity(report) is None


def model_limits(
    limits: Mapping[Resource, float], cost: Cost, base: Cost | None = None
) -> dict[str, Any]:
    """Each limit of the model budget with the cost's value, headroom and verdict.

    Args:
        limits: The budget, in the resources' units.
        cost: Of the network that is delivered.
        base: What the dense network costs under the same conditions; percentages are of it.

    Raises:
        ValueError: If a limit is not finite and positive.
    """
    entries = {}
    for resource, limit in limits.items():
        measured, dense = cost.get(Resource(resource)), (base or {}).get(Resource(resource))
        name, unit = Resource(resource).value, Resource(resource).unit
        entries[name] = _limit(
            limit,
            measured.value if measured else None,
            dense=dense.value if dense else None,
            unit=unit,
            method=measured.method.value if measured else None,
            why_missing=f"the final network has no {name}: it could not be priced",
        )
    return entries


def training_limits_of(
    limits: Mapping[str, float], spent: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Each limit of the training budget with what was spent, headroom and verdict.

    Raises:
        ValueError: If a limit is not finite and positive, or of a name that no spend has.
    """
    known = {**spent, "flops": all_flops(spent)}
    entries = {}
    for name, limit in limits.items():
        if name not in known:
            raise ValueError(f"training_limits must name one of {', '.join(known)}, got {name!r}")
        entries[name] = _limit(
            limit,
            known[name]["value"],
            unit=known[name]["unit"],
            method=known[name]["method"],
            why_missing=f"the run does not know its {name}",
        )
    return entries


def _limit(
    limit: float,
    value: float | None,
    *,
    unit: str,
    method: str | None,
    why_missing: str,
    dense: float | None = None,
) -> dict[str, Any]:
    if not (math.isfinite(limit) and limit > 0):
        raise ValueError(f"a limit must be > 0 and finite, got {limit} {unit}; leave it out")
    entry = {"limit": limit, "value": value, "dense": dense, "unit": unit, "method": method}
    if value is None or not math.isfinite(value):
        nothing = {"value": None, "method": None, "headroom": None}
        return entry | nothing | {"kept": False, "reason": why_missing}
    return entry | {"headroom": 1 - value / limit, "kept": value <= limit, "reason": None}
