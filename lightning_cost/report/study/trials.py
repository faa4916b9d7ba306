"""All trials of a study as one table."""

from collections.abc import Collection, Mapping
from typing import Any

from lightning_cost.cost.resource import Resource
from lightning_cost.report.markup import Markup, element, join, path_name, section, table
from lightning_cost.report.quantities import (
    UNKNOWN,
    duration,
    figures,
    label,
    quantity,
)
from lightning_cost.report.sections import how, marked, metric_cell
from lightning_cost.report.study.record import Study, TrialRecord
from lightning_cost.report.sweep.links import run_link
from lightning_cost.report.sweep.rows import SweepRow, is_resource


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
    lines = [
        [
            run_link(trial.run_dir)
            if trial.run_dir is not None and trial.run_dir in rows
            else str(trial.number),
            _settings(trial.settings),
            *(_cost(trial, rows.get(str(trial.run_dir)), name) for name in resources),
            *(metric_cell(name, trial.values.get(name)) for name in metrics),
            UNKNOWN if trial.seconds is None else duration(trial.seconds),
            _outcome(trial, is_on_front=trial.run_dir in front),
        ]
        for trial in study.trials
    ]
    hint = (
        "Costs of finished trials as delivered, those of the others as predicted before training."
    )
    return section("Trials", table(header, lines, "runs"), hint=hint)


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


def _outcome(trial: TrialRecord, *, is_on_front: bool) -> Markup:
    words: list[str] = [trial.state]
    if trial.state == "finished":
        words.append("on the front" if is_on_front else "beaten")
    words += [
        f"{label(name)} {'too high' if excess is None else f'{100 * excess:+.3g} %'}"
        for name, excess in trial.violations.items()
    ]
    if trial.reason is not None:
        words.append(trial.reason)
    return element("span", "; ".join(words), class_=f"state-{trial.state}")
