"""The networks along a ranking: what they cost, and what is left of them before recovery."""

from collections.abc import Mapping, Sequence
from typing import Any

from lightning_cost.cost.resource import Resource
from lightning_cost.report.charts import Axis, Curve, Dot, scatter_chart
from lightning_cost.report.markup import Markup, element, section, table
from lightning_cost.report.quantities import (
    is_share,
    label,
    metric_value,
    origin,
    percent,
    quantity,
    tick,
)
from lightning_cost.report.sections import marked, metric_cell

Points = Sequence[Mapping[str, Any]]
"""Entries ``{cost, metrics, keep_ratio}`` of ``report.json``, from the largest network on."""

BEFORE = (
    "Dashed: networks along the ranking before recovery: put in order as right after a cut, batch "
    "norms recalibrated on training data, nothing trained; judged on part of the validation data. "
    "Their counted costs are exact, those of a device predicted."
)


def frontier(report: Mapping[str, Any]) -> Markup | None:
    """The networks along the ranking of one run, and what the run made of one of them."""
    points = report["pruning"]["frontier"] if report["pruning"] else []
    metric = report["metric"]
    if not points:
        return None
    dots = {
        name: [
            Dot(
                label="",
                x=stage["cost"][name]["value"],
                y=stage["metrics"][metric],
                style=style,
                tip=f"{words}: {metric_value(metric, stage['metrics'][metric])}",
            )
            for stage, style, words in (
                (report["dense"], "dense-dot", "dense"),
                (report["final"], "on-front", "after recovery"),
            )
            if name in stage["cost"] and stage["metrics"].get(metric) is not None
        ]
        for name in dict.fromkeys(["macs", *report["budget"]])
    }
    plots = path_plots([points], metric, dots) if metric else []
    hint = f"{BEFORE} Filled: as trained and deployed. Grey: dense."
    drawn = element("div", *plots, class_="plots") if plots else None
    return section("Along the ranking", drawn, point_table(points), hint=hint)


def resources_of(paths: Sequence[Points]) -> list[str]:
    """The resources that some network has, in their usual order; FLOPs are twice the MACs."""
    seen = {name for points in paths for point in points for name in point["cost"]}
    return [r.value for r in Resource if r.value in seen and r is not Resource.flops]


def path_plots(
    paths: Sequence[Points], metric: str, dots: Mapping[str, Sequence[Dot]]
) -> list[Markup]:
    """One plot per resource of ``dots``: the networks before recovery, and others.

    Args:
        paths: Of one ranking each.
        metric: What is drawn against the resources.
        dots: The others, by resource.
    """
    plots = [_plot(paths, name, metric, others) for name, others in dots.items()]
    return [plot for plot in plots if plot is not None]


def point_table(points: Points) -> Markup:
    """One row per network: what it keeps, what it costs, and its metrics before recovery."""
    names = resources_of([points])
    metrics = list(dict.fromkeys(name for point in points for name in point["metrics"]))
    header = ["channels", *map(label, names), *(f"{name} before recovery" for name in metrics)]
    rows = [
        [
            percent(point["keep_ratio"]),
            *(marked(point["cost"].get(name)) for name in names),
            *(metric_cell(name, point["metrics"].get(name)) for name in metrics),
        ]
        for point in points
    ]
    return table(header, rows, "points")


def _plot(paths: Sequence[Points], name: str, metric: str, dots: Sequence[Dot]) -> Markup | None:
    curves, small, origins, unit = [], [], set(), ""
    for points in paths:
        known = [
            (point["cost"][name], point["metrics"][metric])
            for point in points
            if name in point["cost"] and point["metrics"].get(metric) is not None
        ]
        for cost, value in known:
            unit = cost["unit"]
            origins.add(origin(cost))
            text = f"{quantity(cost['value'], unit)}, {metric_value(metric, value)}"
            tip = f"before recovery: {text}"
            small.append(Dot(label="", x=cost["value"], y=value, style="on-path", tip=tip))
        corners = [(cost["value"], value) for cost, value in known]
        curves.append(Curve(name="before recovery", points=corners, style="path", is_dashed=True))
    shown = [*small, *dots]
    if not small:
        return None
    values = [dot.y for dot in shown]
    shares = all(is_share(metric, value) for value in values)
    pad = 0.08 * ((max(values) - min(values)) or abs(max(values)) or 1.0)
    x = Axis(
        low=0,
        high=1.06 * max(dot.x for dot in shown),
        write=lambda value: tick(value, unit),
        title=f"{label(name)} ({', '.join(sorted(origins))})",
    )
    y = Axis(
        low=max(0.0, min(values) - pad) if shares else min(values) - pad,
        high=max(values) + pad,
        write=lambda value: f"{100 * value:.3g} %" if shares else f"{value:.3g}",
        title=metric,
    )
    heading = element("h3", f"{metric} against {label(name)}, before recovery")
    return element("div", heading, scatter_chart(shown, front=[], lines=curves, x=x, y=y))
