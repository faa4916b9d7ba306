"""Plans as text: one run's parts, spend and limits, or one line for each run of a sweep."""

import json
from collections.abc import Sequence
from typing import Any

from lightning_cost.recipe.run_plan import RunPlan
from lightning_cost.report.quantities import duration, figures, label, percent, quantity
from lightning_cost.report.table import aligned

_SPEND_LABELS = {"wall_clock_s": "time", "energy_kwh": "energy", "co2_kg": "CO2", "usd": "money"}


def plan_text(plan: RunPlan) -> str:
    """Everything about one plan, for a terminal."""
    blocks = [plan.title, _compute(plan), _spend(plan)]
    if plan.limits:
        blocks.append(_limits(plan))
    notes = [f"the dense network on the device: {remark}" for remark in plan.remarks]
    notes += [f"not counted: {note}" for note in plan.not_counted]
    if plan.limits or plan.training_limits:
        notes += [f"cannot be kept: {obstacle}" for obstacle in plan.obstacles]
        notes += [f"may not be kept: {doubt}" for doubt in plan.doubts]
        notes += [f"only the run can tell: {name}" for name in plan.undecided]
        if not plan.obstacles and not plan.doubts:
            notes.append("every limit that can be checked beforehand can be kept")
    return "\n\n".join([*blocks, "\n".join(notes)])


def sweep_text(settings: Sequence[str], plans: Sequence[RunPlan]) -> str:
    """One line for each configuration, and their sum."""
    rows = [["configuration", "compute", "time", "energy", "CO2", "money", "feasible"]]
    for setting, plan in zip(_differing(settings), plans, strict=True):
        spent = [_amount(name, plan.spend[name].value) for name in _SPEND_LABELS]
        rows.append([setting, quantity(plan.flops, "FLOP"), *spent, _verdict(plan)])
    totals = sweep_totals(plans)
    num_feasible = sum(not plan.obstacles for plan in plans)
    rows.append(
        [
            "total",
            quantity(totals["flops"], "FLOP"),
            *(_amount(name, totals[name]) for name in _SPEND_LABELS),
            f"{num_feasible} of {len(plans)}",
        ]
    )
    return aligned(rows)


def sweep_totals(plans: Sequence[RunPlan]) -> dict[str, float | None]:
    """Sums over all plans; ``None`` where one of them does not know."""
    totals: dict[str, float | None] = {"flops": sum(plan.flops for plan in plans)}
    for name in _SPEND_LABELS:
        values = [plan.spend[name].value for plan in plans]
        known = [value for value in values if value is not None]
        totals[name] = sum(known) if len(known) == len(values) else None
    return totals


def plan_line(settings: Sequence[str], plans: Sequence[RunPlan]) -> str:
    """The same on one line, as JSON: of a single plan, or of a sweep."""
    content: dict[str, Any]
    if not settings:
        (plan,) = plans
        content = plan.to_dict()
    else:
        runs = [
            {"configuration": setting, **plan.to_dict()}
            for setting, plan in zip(settings, plans, strict=True)
        ]
        num_feasible = sum(not plan.obstacles for plan in plans)
        content = {"runs": runs, "total": sweep_totals(plans), "num_feasible": num_feasible}
    return json.dumps(content)


def _verdict(plan: RunPlan) -> str:
    if plan.obstacles:
        return f"no: {'; '.join(plan.obstacles)}"
    if plan.doubts:
        return f"in doubt: {'; '.join(plan.doubts)}"
    if plan.undecided:
        return f"as far as known, without {', '.join(plan.undecided)}"
    return "yes"


def _differing(settings: Sequence[str]) -> list[str]:
    """Each configuration without the words that all have in common."""
    words = [setting.split(" ") for setting in settings]
    common = set.intersection(*map(set, words)) if len(words) > 1 else set()
    return [" ".join(word for word in each if word not in common) for each in words]


def _compute(plan: RunPlan) -> str:
    rows = [["compute", "epochs", "FLOPs", "share", "assumptions"]]
    rows += [
        [
            share.name,
            "" if share.num_epochs is None else str(share.num_epochs),
            figures(share.flops),
            percent(share.flops / plan.flops if plan.flops else None),
            share.assumptions,
        ]
        for share in plan.shares
    ]
    rows.append(["total", "", figures(plan.flops), percent(1.0), ""])
    if all(share.num_epochs is None for share in plan.shares):
        rows = [[row[0], *row[2:]] for row in rows]
    return aligned(rows)


def _spend(plan: RunPlan) -> str:
    rows = [["spend", "estimated", "limit", "assumptions"]]
    limits = plan.training_limits
    if "flops" in limits:
        limit = quantity(limits["flops"], "FLOP")
        rows.append(["compute", quantity(plan.flops, "FLOP"), limit, "all of the above"])
    for name, word in _SPEND_LABELS.items():
        estimate = plan.spend[name]
        limit = _amount(name, limits[name]) if name in limits else ""
        rows.append([word, _amount(name, estimate.value), limit, estimate.assumptions])
    return aligned(rows)


def _limits(plan: RunPlan) -> str:
    rows = [["budget", "dense, deployed", "limit", "is kept by", "smallest reachable"]]
    for resource, measured in plan.dense.items():
        limit = plan.limits.get(resource)
        smallest = plan.smallest.get(resource)
        if limit is None:
            kept = ""
        elif measured.value <= limit:
            kept = "the dense network"
        else:
            kept = f"{figures(measured.value / limit)}× less"
        method = str(measured.method)
        model = f", {measured.model}" if measured.model else ""
        rows.append(
            [
                label(resource.value),
                f"{quantity(measured.value, resource.unit)} {method}{model}",
                "" if limit is None else quantity(limit, resource.unit),
                kept,
                "" if smallest is None else quantity(smallest.value, resource.unit),
            ]
        )
    return aligned(rows)


def _amount(name: str, value: float | None) -> str:
    if value is None:
        return "not known"
    if name == "wall_clock_s":
        return duration(value) if value < 48 * 3600 else f"{figures(value / 86400)} days"
    unit = {"energy_kwh": "kWh", "co2_kg": "kg", "usd": "USD"}[name]
    return quantity(value, unit)
