"""The page of a sweep, and its table for a terminal."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_cost.cost.resource import Resource
from lightning_cost.report.charts import Dot
from lightning_cost.report.files import write_text
from lightning_cost.report.frontier import BEFORE, path_plots, point_table, resources_of
from lightning_cost.report.html import PAGE_NAME
from lightning_cost.report.markup import Markup, element, page, pairs, section, table
from lightning_cost.report.quantities import label, marked_text, metric_text, metric_value, quantity
from lightning_cost.report.sections import marked, metric_cell
from lightning_cost.report.study.facts import facts, summary
from lightning_cost.report.study.history import history
from lightning_cost.report.study.importance import importance
from lightning_cost.report.study.record import Study
from lightning_cost.report.study.trials import trials
from lightning_cost.report.sweep.best import Best, best
from lightning_cost.report.sweep.document import build_document, save_document, weighed
from lightning_cost.report.sweep.links import run_link
from lightning_cost.report.sweep.plots import dense_dots, key, kinds_of, known_rows, quality_plot
from lightning_cost.report.sweep.rows import (
    Direction,
    Sweep,
    SweepRow,
    is_resource,
    pareto_front,
)
from lightning_cost.report.sweep.spend import spend
from lightning_cost.report.table import aligned


def write_sweep(sweep: Sweep, study: Study | None = None) -> Path:
    """Write ``sweep.json`` and ``report.html`` into a sweep's directory.

    Args:
        sweep: Its runs.
        study: The study that chose them, where there is one.

    Returns:
        The path of the page.

    Raises:
        ValueError: If there is neither a run nor a trial.
    """
    document = build_document(sweep, study)
    save_document(document, sweep.folder)
    return write_text(sweep.folder / PAGE_NAME, render_sweep(document, sweep, study))


def sweep_table(sweep: Sweep, study: Study | None = None) -> str:
    """One line per run as plain text; a star marks the runs that no other run beats."""
    objectives = weighed(sweep, study)
    front = pareto_front([row.values for row in sweep.rows], objectives)
    names = _usual(sweep.rows, objectives)
    metrics = [name for name in objectives if not is_resource(name)]
    header = ["run", "", *map(label, names), *metrics, "verdict", "settings"]
    rows = [
        [
            row.run,
            "*" if index in front else "",
            *(marked_text(row.cost.get(name)) for name in names),
            *(metric_text(name, row.values.get(name)) for name in metrics),
            "kept" if not row.broken else "NOT KEPT",
            _settings(row),
        ]
        for index, row in enumerate(sweep.rows)
    ]
    lines = [f"{run} is left out: {reason}" for run, reason in sweep.unreadable.items()]
    return "\n".join([aligned([header, *rows]), *lines, *_search_sentences(sweep)])


def render_sweep(document: Mapping[str, Any], sweep: Sweep, study: Study | None = None) -> str:
    """The page of a sweep as HTML text.

    Args:
        document: Of the other two, as in ``sweep.json``.
        sweep: Its runs.
        study: The study that chose them, where there is one.
    """
    objectives = document["objectives"]
    front = [run["run"] for run in document["runs"] if run["on_front"]]
    names = _resources(sweep.rows, objectives)
    metrics = [name for name in objectives if not is_resource(name)]
    budgets = [Best(**each) for each in document["best"]]
    parts = [
        _header(document, sweep, study),
        _quality(sweep.rows, names, objectives, study),
        best(budgets, sweep.rows, _usual(sweep.rows, objectives)),
    ]
    if study is not None:
        by_run = {row.run: row for row in sweep.rows}
        parts += [history(study), importance(study), spend(document), trials(study, by_run, front)]
    else:
        parts += [section("Runs", _table(sweep, names, metrics, front)), spend(document)]
    parts += _along_the_rankings(sweep, metrics)
    if sweep.unreadable:
        rows = [[run, reason] for run, reason in sweep.unreadable.items()]
        parts.append(section("Left out", table(["run", "why"], rows)))
    return page("lightning-cost sweep", *parts)


def _header(document: Mapping[str, Any], sweep: Sweep, study: Study | None) -> Markup:
    num_best = sum(run["on_front"] for run in document["runs"])
    title = f"{num_best} of {len(sweep.rows)} runs on the front"
    if not sweep.rows:
        title = "No run came to its end"
    weighed = ", ".join(map(label, document["objectives"]))
    sentences = [f"Weighed against each other: {weighed}.", *_search_sentences(sweep)]
    return element(
        "header",
        element(
            "div",
            element("p", "lightning-cost sweep report", class_="kind"),
            element("h1", title),
            *(element("p", sentence) for sentence in sentences),
            *(element("p", sentence) for sentence in (summary(study) if study else [])),
        ),
        pairs(facts(study)) if study is not None else None,
    )


def _quality(
    rows: Sequence[SweepRow],
    names: Sequence[str],
    objectives: Mapping[str, Direction],
    study: Study | None,
) -> Markup:
    """One plot for each metric and resource, and what its marks stand for."""
    plots = [
        quality_plot(rows, name, metric, direction, study)
        for metric, direction in objectives.items()
        if not is_resource(metric)
        for name in names
    ]
    drawn = [plot for plot in plots if plot is not None]
    if not drawn:
        empty = element("p", "No metric and resource are known together.", class_="empty")
        return section("Quality against cost", empty)
    hint = (
        "Infeasible trials stand at the foot, as they have no quality, and at the right edge where "
        "their predicted cost is beyond it. Dashed: a limit."
    )
    hint = hint if study is not None else "Dashed: a limit."
    return section(
        "Quality against cost",
        key(kinds_of(drawn)),
        element("div", *drawn, class_="plots"),
        hint=hint,
    )


def _along_the_rankings(sweep: Sweep, metrics: Sequence[str]) -> list[Markup]:
    """The networks that were not trained: one section for all plots, and a table per ranking."""
    paths = sweep.frontiers
    if not paths:
        return []
    names = resources_of(list(paths.values()))
    plots = []
    for metric in metrics:
        dots = {name: _run_dots(sweep.rows, name, metric) for name in names}
        plots += path_plots(list(paths.values()), metric, dots)
    hint = f"{BEFORE} Filled: the runs, trained and deployed. Grey: dense."
    tables = []
    for run, points in paths.items():
        heading = [element("h3", f"ranking of run {run}")] if len(paths) > 1 else []
        tables += [*heading, point_table(points)]
    drawn = element("div", *plots, class_="plots") if plots else None
    return [section("Along the ranking", drawn, *tables, hint=hint)]


def _run_dots(rows: Sequence[SweepRow], name: str, metric: str) -> list[Dot]:
    dots = [
        Dot(
            label=row.run.rpartition("/")[2],
            x=cost["value"],
            y=value,
            style="on-front",
            tip=f"{row.run}, after recovery: {quantity(cost['value'], cost['unit'])}, "
            f"{metric_value(metric, value)}",
        )
        for row, cost, value in known_rows(rows, name, metric)
    ]
    return [*dense_dots(rows, name, metric), *dots]


def _search_sentences(sweep: Sweep) -> list[str]:
    """How many searches there were for how many runs."""
    sentences = []
    for maker, runs in sweep.searches.items():
        row = next(row for row in sweep.rows if row.run == maker)
        assert row.search is not None
        search = f"One search of {len(row.search['trials'])} candidates, in run {maker}, served"
        if len(runs) == len(sweep.rows) > 1:
            sentences.append(f"{search} all {len(runs)} runs.")
        elif len(runs) > 1:
            sentences.append(f"{search} the runs {', '.join(runs)}.")
    return sentences


def _table(
    sweep: Sweep, names: Sequence[str], metrics: Sequence[str], front: Collection[str]
) -> Markup:
    header = ["run", "settings", *map(label, names), *metrics, "verdict"]
    rows = [
        [
            run_link(row.run),
            _settings(row),
            *(marked(row.cost.get(name)) for name in names),
            *(metric_cell(name, row.values.get(name)) for name in metrics),
            f"{'on the front' if row.run in front else 'beaten'}; "
            f"{'; '.join(row.broken) or 'limits kept'}",
        ]
        for row in sweep.rows
    ]
    return table(header, rows, "runs")


def _resources(rows: Sequence[SweepRow], objectives: Mapping[str, Direction]) -> list[str]:
    """The usual resources, then every other one that some run has; FLOPs are twice the MACs."""
    seen = {name for row in rows for name in row.cost}
    others = [r.value for r in Resource if r.value in seen and r is not Resource.flops]
    return list(dict.fromkeys([*_usual(rows, objectives), *others]))


def _usual(rows: Sequence[SweepRow], objectives: Mapping[str, Direction]) -> list[str]:
    """The resources among the objectives, then the usual ones that some run has."""
    seen = {name for row in rows for name in row.cost}
    usual = [name for name in ("macs", "latency_ms", "size_bytes") if name in seen]
    return list(dict.fromkeys([*filter(is_resource, objectives), *usual]))


def _settings(row: SweepRow) -> str:
    return ", ".join(f"{name}={value}" for name, value in row.settings.items()) or "the same"
