"""What a study was, and in a few words what came of it."""

import math
from collections import Counter

from lightning_cost.cost.resource import Resource
from lightning_cost.report.markup import path_name
from lightning_cost.report.quantities import SPEND_UNITS, figures, label, quantity
from lightning_cost.report.study.record import STATES, Study, TrialRecord


def facts(study: Study) -> list[tuple[str, str]]:
    """Names and values for the head of a page."""
    return [
        ("study", study.name),
        (
            "objectives",
            ", ".join(
                f"{label(name)} ({'high' if direction == 'max' else 'low'} is better)"
                for name, direction in study.objectives.items()
            ),
        ),
        (
            "limits",
            ", ".join(
                f"{label(name)} ≤ {quantity(limit, Resource(name).unit)}"
                for name, limit in study.limits.items()
            )
            or "none that all trials share",
        ),
        *(
            (
                f"{label(name)} of all runs",
                f"{_amount(name, study.used.get(name))} of {_amount(name, limit)}",
            )
            for name, limit in study.training.items()
        ),
        *((path_name(name), written) for name, written in study.space.items()),
        ("sampler", study.sampler or "not recorded"),
        ("pruner", study.pruner or "not recorded"),
        ("seed", "not recorded" if study.seed is None else str(study.seed)),
    ]


def summary(study: Study) -> list[str]:
    """How many trials ended how; and the nearest of the infeasible, where none was feasible."""
    counts = Counter(trial.state for trial in study.trials)
    words = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    sentences = [f"{len(study.trials)} trials: {words}."]
    if study.stop_reason is not None:
        sentences.append(f"The sweep ended: {study.stop_reason}.")
    refused = study.of_state("infeasible")
    if refused and len(refused) == len(study.trials):
        nearest = min(refused, key=_excess)
        costs = ", ".join(
            f"{quantity(nearest.predicted.get(name), Resource(name).unit)}, {over(name, excess)}"
            for name, excess in nearest.violations.items()
        )
        settings = ", ".join(
            f"{name}={figures(value) if isinstance(value, float) else value}"
            for name, value in nearest.settings.items()
        )
        sentences.append(
            f"Nothing was feasible; the nearest, {settings}, is predicted to take {costs}."
        )
    return sentences


def _amount(name: str, value: float | None) -> str:
    return quantity(value, SPEND_UNITS[name])


def over(name: str, excess: float | None) -> str:
    """By how much a cost breaks its limit.

    >>> over("latency_ms", 0.5)
    'latency 1.50× the limit'
    """
    times = "not finite, over" if excess is None else f"{figures(1 + excess)}×"
    return f"{label(name)} {times} the limit"


def _excess(trial: TrialRecord) -> float:
    return max(
        (math.inf if excess is None else excess for excess in trial.violations.values()),
        default=math.inf,
    )
