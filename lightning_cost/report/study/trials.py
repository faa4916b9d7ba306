"""All trials of a study as one table."""

from collections.abc import Collection, Mapping
from typing import Any

from lightning_cost.cost.resource import Resource
from lightning_cost.report.markup import Markup, element, join, path_name, section, table
from lightning_cost.report.quantities import duration, figures, label, metric_value, quantity
from lightning_cost.report.sections import how, marked, metric_cell
from lightning_cost.report.study.facts import over
from lightning_cost.report.study.record import State, Study, TrialRecord
from lightning_cost.report.sweep.links import run_link
from lightning_cost.report.sweep.rows import SweepRow, is_resource

_UNTRAINED: tuple[State, ...] = ("infeasible", "repeated")


def trials(study: Study, rows: Mapping[str, SweepRow], front: Collection[str]) -> Markup | None:
    """One line for each trial: settings, costs, values, and what became of it.

    Args:
        study: The study.
        rows: The runs that left a report, by their directory.
        front: The runs that no other beats.
    """
    if not study.trials:
        return None
    resources = list(
        dict.fromkeys(
            [
                *study.limits,
                *(name for trial in study.trials for name in trial.predicted),
                *filter(is_resource, study.objectives),
            ]
        )
    )
    metrics = [name for name in study.objectives if not is_resource(name)]
    header = ["trial", "settings", *map(label, resources), *metrics, "time", "outcome"]
    tried: list[list[str]] = []
    untrained: list[list[str]] = []
    for trial in study.trials:
        line = [
            run_link(trial.run_dir)
            if trial.run_dir is not None and trial.run_dir in rows
            else str(trial.number),
            _settings(trial.settings),
            *(_cost(trial, rows.get(str(trial.run_dir)), name) for name in resources),
            *(_value(trial, name, is_only=len(study.objectives) == 1) for name in metrics),
            "" if trial.seconds is None else duration(trial.seconds),
            _outcome(trial, rows, front),
        ]
        (untrained if trial.state in _UNTRAINED else tried).append(line)
    hint = (
        "Costs of finished trials as delivered, those of the others as predicted before training."
    )
    parts = [table(header, tried, "runs")] if tried else []
    if untrained:
        counts = [f"{len(study.of_state(state))} {state}" for state in _UNTRAINED]
        words = " and ".join(each for each in counts if not each.startswith("0 "))
        summary = element("summary", f"{words}, never trained")
        is_open = None if tried else "open"
        parts.append(element("details", summary, table(header, untrained, "runs"), open=is_open))
    return section("Trials", *parts, hint=hint)


def _settings(settings: Mapping[str, Any]) -> Markup:
    words = [
        join([path_name(name), f"={figures(value) if isinstance(value, float) else value}"])
        for name, value in settings.items()
    ]
    return join(part for word in words for part in (element("span", word, class_="setting"), " "))


def _cost(trial: TrialRecord, row: SweepRow | None, name: str) -> Markup:
    if row is not None:
        return marked(row.cost.get(name))
    value = trial.predicted.get(name)
    if value is None:
        return marked(None)
    text = quantity(value, Resource(name).unit)
    figure = element("span", text, class_="figure")
    return join([figure, " ", how("estimated", "predicted")])


def _value(trial: TrialRecord, metric: str, *, is_only: bool) -> Markup:
    """What was reached; nothing where nothing was trained."""
    if metric in trial.values:
        return metric_cell(metric, trial.values[metric])
    if is_only and trial.reached is not None:
        return join([metric_value(metric, trial.reached), " ", how("measured", "when stopped")])
    return Markup("")


def _outcome(trial: TrialRecord, rows: Mapping[str, SweepRow], front: Collection[str]) -> Markup:
    words: list[str] = [trial.state]
    if trial.run_dir in front:
        words.append("on the front")
    elif trial.state == "finished":
        words.append("beaten" if trial.run_dir in rows else "its report is not here")
    words += [over(name, excess) for name, excess in trial.violations.items()]
    row = rows.get(str(trial.run_dir))
    if row is not None and not row.is_faithful:
        words.append("the deployed file does not compute what was trained")
    if trial.reason is not None:
        words.append(trial.reason)
    return join(["; ".join(words)])
