"""What a sweep found: one table, one plot per resource, and the runs that no other run beats."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_cost.cost.resource import Resource
from lightning_cost.report.charts import Axis, Dot, scatter_chart
from lightning_cost.report.files import write_text
from lightning_cost.report.frontier import BEFORE, path_plots, point_table, resources_of
from lightning_cost.report.markup import Markup, element, page, section, table
from lightning_cost.report.quantities import (
    is_better_when_lower,
    is_share,
    label,
    marked_text,
    metric_text,
    metric_value,
    origin,
    quantity,
)
from lightning_cost.report.sections import marked, metric_cell
from lightning_cost.report.sweep import (
    Direction,
    Sweep,
    SweepRow,
    collect,
    default_objectives,
    pareto_front,
)
from lightning_cost.report.table import aligned

PARETO_VERSION = 2


def write_pareto(sweep_dir: str | Path) -> Path:
    """Write ``pareto.json`` and ``pareto.html`` into a sweep directory.

    Returns:
        The path of the page.

    Raises:
        ValueError: If no run below ``sweep_dir`` has a readable report.
    """
    sweep = collect(sweep_dir)
    objectives = default_objectives(sweep.rows)
    front = pareto_front([row.values for row in sweep.rows], objectives)
    document = {
        "schema_version": PARETO_VERSION,
        "objectives": objectives,
        "rows": [
            {**row.to_dict(), "on_front": index in front} for index, row in enumerate(sweep.rows)
        ],
        "searches": sweep.searches,
        "frontiers": sweep.frontiers,
        "unreadable": dict(sweep.unreadable),
    }
    text = json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False)
    write_text(Path(sweep_dir) / "pareto.json", text + "\n")
    return write_text(Path(sweep_dir) / "pareto.html", render_pareto(sweep, objectives, front))


def sweep_table(sweep: Sweep) -> str:
    """One line per run as plain text; a star marks the runs that no other run beats."""
    objectives = default_objectives(sweep.rows)
    front = pareto_front([row.values for row in sweep.rows], objectives)
    names = _usual(sweep.rows, objectives)
    metrics = [name for name in objectives if name not in names]
    header = ["run", "", *map(label, names), *metrics, "limits", "settings"]
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


def render_pareto(sweep: Sweep, objectives: Mapping[str, Direction], front: Sequence[int]) -> str:
    """The page of a sweep as HTML text."""
    names = _resources(sweep.rows, objectives)
    metrics = [name for name in objectives if name not in names]
    plots = [_plot(sweep.rows, name, metric) for metric in metrics for name in names]
    drawn = [plot for plot in plots if plot is not None]
    empty = element("p", "No metric and resource are known together.", class_="empty")
    hint = "Filled: no run is both cheaper and better. Red ring: a limit was not kept. Grey: dense."
    parts = [
        _header(sweep, objectives, front),
        section(
            "Quality against cost", element("div", *(drawn or [empty]), class_="plots"), hint=hint
        ),
        section("Runs", _table(sweep, names, metrics, front)),
        *_along_the_rankings(sweep, metrics),
    ]
    if sweep.unreadable:
        rows = [[run, reason] for run, reason in sweep.unreadable.items()]
        parts.append(section("Left out", table(["run", "why"], rows)))
    return page("lightning-cost sweep", *parts)


def _header(sweep: Sweep, objectives: Mapping[str, Direction], front: Sequence[int]) -> Markup:
    weighed = ", ".join(label(name) for name in objectives)
    title = f"{len(front)} of {len(sweep.rows)} runs on the front"
    return element(
        "header",
        element(
            "div",
            element("p", "lightning-cost sweep report", class_="kind"),
            element("h1", title),
            element("p", f"Weighed against each other: {weighed}."),
            *(element("p", sentence) for sentence in _search_sentences(sweep)),
        ),
    )


def _plot(rows: Sequence[SweepRow], name: str, metric: str) -> Markup | None:
    """The runs, and their dense networks, with the front of these two objectives alone."""
    known = _known(rows, name, metric)
    if not known:
        return None
    unit = known[0][1]["unit"]
    lower = is_better_when_lower(metric)
    pairs: list[Mapping[str, float | None]] = [
        {"x": cost["value"], "y": value} for _, cost, value in known
    ]
    best = set(pareto_front(pairs, {"x": "min", "y": "min" if lower else "max"}))
    dots = [
        Dot(
            label=row.run.rpartition("/")[2],
            x=cost["value"],
            y=value,
            style="not-kept" if row.broken else "on-front" if at in best else "off-front",
            tip=f"{row.run}: {quantity(cost['value'], unit)}, {metric_value(metric, value)}",
        )
        for at, (row, cost, value) in enumerate(known)
    ]
    corners = sorted((dots[at].x, dots[at].y) for at in best)
    dots = _dense_dots(rows, name, metric) + dots
    x = Axis(
        low=0,
        high=1.06 * max(dot.x for dot in dots),
        write=lambda value: quantity(value, unit),
        title=f"{label(name)} ({', '.join(sorted({origin(cost) for _, cost, _ in known}))})",
    )
    values = [dot.y for dot in dots]
    pad = 0.15 * ((max(values) - min(values)) or abs(max(values)) or 1.0)
    shares = all(is_share(metric, value) for value in values)
    y = Axis(
        low=min(values) - pad,
        high=max(values) + pad,
        write=lambda value: f"{100 * value:.3g} %" if shares else f"{value:.3g}",
        title=metric,
    )
    heading = element("h3", f"{metric} against {label(name)}")
    return element("div", heading, scatter_chart(dots, front=corners, x=x, y=y))


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
        for row, cost, value in _known(rows, name, metric)
    ]
    return [*_dense_dots(rows, name, metric), *dots]


def _known(
    rows: Sequence[SweepRow], name: str, metric: str
) -> list[tuple[SweepRow, Mapping[str, Any], float]]:
    """The runs whose cost and metric are both known, with these."""
    return [
        (row, row.cost[name], value)
        for row in rows
        if name in row.cost and (value := row.values.get(metric)) is not None
    ]


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


def _dense_dots(rows: Sequence[SweepRow], name: str, metric: str) -> list[Dot]:
    points = dict.fromkeys(
        (row.dense_cost[name]["value"], row.dense_metric)
        for row in rows
        if name in row.dense_cost and row.dense_metric is not None and row.metric == metric
    )
    return [Dot(label="", x=x, y=y, style="dense-dot", tip="dense network") for x, y in points]


def _table(
    sweep: Sweep, names: Sequence[str], metrics: Sequence[str], front: Sequence[int]
) -> Markup:
    header = ["run", "settings", *map(label, names), *metrics, "verdict"]
    rows = [
        [
            row.run,
            _settings(row),
            *(marked(row.cost.get(name)) for name in names),
            *(metric_cell(name, row.values.get(name)) for name in metrics),
            f"{'on the front' if index in front else 'beaten'}; "
            f"{'; '.join(row.broken) or 'limits kept'}",
        ]
        for index, row in enumerate(sweep.rows)
    ]
    return table(header, rows, "runs")


def _resources(rows: Sequence[SweepRow], objectives: Mapping[str, Direction]) -> list[str]:
    """The usual resources, then every other one that some run has; FLOPs are twice the MACs."""
    seen = {name for row in rows for name in row.cost}
    others = [r.value for r in Resource if r.value in seen and r is not Resource.flops]
    return list(dict.fromkeys([*_usual(rows, objectives), *others]))


def _usual(rows: Sequence[SweepRow], objectives: Mapping[str, Direction]) -> list[str]:
    """The resources among the objectives, then the usual ones that some run has."""
    metrics = {row.metric for row in rows}
    seen = {name for row in rows for name in row.cost}
    usual = [name for name in ("macs", "latency_ms", "size_bytes") if name in seen]
    return list(dict.fromkeys([*(name for name in objectives if name not in metrics), *usual]))


def _settings(row: SweepRow) -> str:
    return ", ".join(f"{name}={value}" for name, value in row.settings.items()) or "the same"
