"""The plan of a sweep as text, and as one line of JSON."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from lightning_cost.cost.resource import Resource
from lightning_cost.report.quantities import SPEND_UNITS, label, percent, quantity
from lightning_cost.report.table import aligned
from lightning_cost.sweep.plan import SweepPlan

_WORDS = {
    "flops": "compute",
    "wall_clock_s": "time",
    "energy_kwh": "energy",
    "co2_kg": "CO2",
    "usd": "money",
}


def sweep_plan_text(plan: SweepPlan) -> str:
    """Everything about the plan of a sweep, for a terminal."""
    settings = plan.settings
    head = [
        f"{settings.num_trials} feasible trials, sampler {settings.sampler}, pruner "
        f"{settings.pruner}, of",
        *(f"  {key} = {written}" for key, written in plan.space.items()),
    ]
    blocks = ["\n".join(head), "\n".join(_feasible(plan))]
    if plan.amounts:
        blocks += [_amounts(plan), "\n".join(_notes(plan))]
    return "\n\n".join(blocks)


def sweep_plan_line(plan: SweepPlan) -> str:
    """The same on one line, as JSON."""
    nearest = None
    if plan.nearest is not None:
        chosen, verdict = plan.nearest
        nearest = {
            "settings": dict(chosen),
            "predicted": dict(verdict.predicted),
            "violations": verdict.violations,
        }
    content: dict[str, Any] = {
        "space": dict(plan.space),
        "sampler": plan.settings.sampler,
        "seed": plan.settings.seed,
        "num_trials": plan.settings.num_trials,
        "num_runs": plan.num_runs,
        "num_affordable": plan.num_affordable,
        "varied": list(plan.varied),
        "num_combinations": plan.num_combinations,
        "num_judged": plan.num_judged,
        "num_feasible": plan.num_feasible,
        "num_refused": plan.num_refused,
        "is_exhaustive": plan.is_exhaustive,
        "limits": dict(plan.limits),
        "nearest": nearest,
        "trial": {name: asdict(amount) for name, amount in plan.amounts.items()},
        "total": {name: plan.total(name) for name in plan.amounts},
        "training_limits": plan.settings.training.limits(),
        "unknown": dict(plan.unknown),
    }
    return json.dumps(content)


def _feasible(plan: SweepPlan) -> Iterator[str]:
    ratio = percent(plan.num_feasible / plan.num_judged)
    names = ", ".join(plan.varied)
    if not plan.varied:
        said = "yes" if plan.num_feasible else "no"
        yield f"feasible: {said}; nothing that is varied changes what a run costs"
    elif plan.is_exhaustive:
        yield (
            f"feasible: {plan.num_feasible} of {plan.num_judged} combinations of {names} "
            f"({ratio}), all of them judged"
        )
    else:
        there = "" if plan.num_combinations is None else f" of {plan.num_combinations:,}"
        drawn = f"drawn with seed {plan.settings.seed}"
        ended = "" if plan.shortage is None else f", no more {plan.shortage}"
        yield (
            f"feasible: {plan.num_feasible} of {plan.num_judged} combinations of {names} "
            f"({ratio}), a sample{there} {drawn}{ended}"
        )
    if plan.is_exhaustive and (plan.num_others or 1) > 1:
        fitting, whole = (
            number * (plan.num_others or 1) for number in (plan.num_feasible, plan.num_judged)
        )
        yield f"that is {fitting:,} of {whole:,} configurations"
    others = [key for key in plan.space if key not in plan.varied]
    if others and plan.varied:
        yield f"without effect on costs: {', '.join(others)}"
    if plan.limits:
        limits = (f"{label(name)} <= {_cost(name, limit)}" for name, limit in plan.limits.items())
        yield f"limits: {', '.join(limits)}"
    if plan.refusal is not None:
        yield f"refused: {plan.num_refused}; the first: {plan.refusal}"
    if plan.nearest is not None and not plan.num_feasible:
        chosen, verdict = plan.nearest
        settings = " ".join(f"{key}={value}" for key, value in chosen.items())
        yield f"nothing was feasible; the nearest{settings and ', '}{settings}, has {verdict}"


def _amounts(plan: SweepPlan) -> str:
    limits = plan.settings.training.limits()
    header = ["predicted", "least of a run", "mean", "most", f"{plan.num_runs} runs of the mean"]
    rows = [[*header, *(["limit on the sweep"] if limits else []), "assumptions"]]
    for name, word in _WORDS.items():
        amount = plan.amounts.get(name)
        if amount is None:
            cells, said = ["", "not known", "", "not known"], plan.unknown.get(name, "")
        else:
            shown = (amount.least, amount.mean, amount.most, plan.total(name))
            cells = [quantity(value, amount.unit) for value in shown]
            said = amount.assumptions
        limit = [_limit(plan, limits, name)] if limits else []
        rows.append([word, *cells, *limit, said])
    return aligned(rows)


def _notes(plan: SweepPlan) -> Iterator[str]:
    yield (
        "the mean is that of the feasible combinations, each as likely as the others; a sampler "
        "that learns leaves it for where quality is"
    )
    if plan.num_runs < plan.settings.num_trials:
        yield f"the space has {plan.num_runs} feasible configurations in all, and no others"
    if plan.settings.pruner != "none":
        yield "runs that the pruner ends early take less"
    if plan.num_affordable < plan.num_runs:
        yield (
            f"the limit on the sweep has room for about {plan.num_affordable} of {plan.num_runs} "
            "runs of the mean"
        )
    for name, why in plan.unknown.items():
        if name in plan.settings.training.limits():
            yield f"the limit on {_WORDS[name]} cannot be checked: {why}"
    yield (
        "not counted: pricing, loading of data, the final evaluation and the measurements of "
        "deployed networks"
    )


def _limit(plan: SweepPlan, limits: Mapping[str, float], name: str) -> str:
    if name not in limits:
        return ""
    return quantity(limits[name], SPEND_UNITS[name])


def _cost(name: str, value: float) -> str:
    return quantity(value, Resource(name).unit)
