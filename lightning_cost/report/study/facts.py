"""What a study was, and in a few words what came of it."""

from collections import Counter

from lightning_cost.cost.resource import Resource
from lightning_cost.report.quantities import label, quantity
from lightning_cost.report.study.record import STATES, Study


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
        *((name, written) for name, written in study.space.items()),
        ("sampler", study.sampler or "not recorded"),
        ("pruner", study.pruner or "not recorded"),
        ("seed", "not recorded" if study.seed is None else str(study.seed)),
    ]


def summary(study: Study) -> list[str]:
    """How many trials ended how; and the nearest of the infeasible, where none was feasible."""
    counts = Counter(trial.state for trial in study.trials)
    words = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    sentences = [f"{len(study.trials)} trials: {words}."]
    refused = [
        (max(excess.values()), trial)
        for trial in study.of_state("infeasible")
        if (excess := {n: e for n, e in trial.violations.items() if e is not None})
    ]
    if refused and len(refused) == len(study.trials):
        _, nearest = min(refused, key=lambda each: each[0])
        costs = ", ".join(
            f"{label(name)} {quantity(nearest.predicted.get(name), Resource(name).unit)}"
            f" ({100 * excess:+.3g} %)"
            for name, excess in nearest.violations.items()
            if excess is not None
        )
        settings = ", ".join(f"{name}={value}" for name, value in nearest.settings.items())
        sentences.append(f"Nothing was feasible; the nearest, {settings}, is predicted {costs}.")
    return sentences
