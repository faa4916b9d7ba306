"""The two curves of a run: its cost and its metric, over epochs, with the phases shaded."""

from collections.abc import Mapping, Sequence
from typing import Any

from lightning_cost.report.charts import Axis, Band, Curve, curve_chart
from lightning_cost.report.markup import Markup, element, join, section
from lightning_cost.report.quantities import (
    figures,
    is_share,
    label,
    metric_value,
    percent,
)

_NUM_TINTS = 6
_MAX_CURVES = 4
_PREFERRED = ("macs", "latency_ms", "size_bytes", "energy_mj", "peak_memory_bytes", "params")

Report = Mapping[str, Any]


def cost_curve(report: Report) -> Markup:
    """Each resource as a share of the dense network's, epoch by epoch."""
    if not report["history"]:
        empty = element("p", "No epoch ended, so there is no curve.", class_="empty")
        return section("Cost over epochs", empty)
    drawn, left_out = _resources(report)
    curves = [_cost_curve(report, name) for name in drawn]
    high = max([1.0, *(y for curve in curves for _, y in curve.points)]) * 1.04
    y = Axis(low=0, high=high, write=lambda value: f"{100 * value:.0f} %", title="share of dense")
    tints = _tints(report)
    chart = curve_chart(curves, bands=_bands(report, tints), x=_epochs(report), y=y, height=330)
    notes = [f"{name} is not drawn: {reason}." for name, reason in left_out.items()]
    aside = element("p", " ".join(notes), class_="aside") if notes else None
    hint = (
        "Share of what the dense network cost when the fit began. Dotted level: the limit. "
        "Dashed curve: estimated."
    )
    key = _legend(curves, tints)
    return section("Cost over epochs", key, chart, aside, hint=hint)


def metric_curve(report: Report) -> Markup:
    """The deciding metric, epoch by epoch, and the dense network's as a level."""
    name = report["metric"]
    points = [
        (row["epoch"] + 1.0, row["metrics"][name])
        for row in report["history"]
        if name and row["metrics"].get(name) is not None
    ]
    if not points:
        which = f"{name} was not recorded" if name else "No metric was named"
        empty = element("p", f"{which}, so there is no curve.", class_="empty")
        return section("Quality over epochs", empty)
    dense = report["dense"]["metrics"].get(name)
    curves = [Curve(name=f"{name} {metric_value(name, points[-1][1])}", points=points, style="c0")]
    values = [value for _, value in points]
    if dense is not None:
        values.append(dense)
        end = _epochs(report).high
        level = [(0.0, dense), (end, dense)]
        text = f"dense {metric_value(name, dense)}"
        curves.append(Curve(name=text, points=level, style="level"))
    low, high = min(values), max(values)
    pad = 0.08 * ((high - low) or abs(high) or 1.0)
    shares = all(is_share(name, value) for value in values)
    y = Axis(
        low=max(0.0, low - pad) if low >= 0 else low - pad,
        high=min(1.0, high + pad) if shares else high + pad,
        write=lambda value: f"{100 * value:.3g} %" if shares else figures(value),
        title=name,
    )
    tints = _tints(report)
    chart = curve_chart(curves, bands=_bands(report, tints), x=_epochs(report), y=y, height=240)
    return section("Quality over epochs", _legend(curves, tints), chart, hint=name)


def _resources(report: Report) -> tuple[list[str], dict[str, str]]:
    """The resources to draw, limited ones first, and why each of the others is not drawn."""
    seen = {name for row in report["history"] for name in row["cost"]}
    wanted = dict.fromkeys([*report["budget"], *_PREFERRED])
    drawn: list[str] = []
    left_out: dict[str, str] = {}
    for name in wanted:
        limited = name in report["budget"]
        base = report["dense"]["cost"].get(name)
        if name in seen and base and _base(report, name) > 0:
            if len(drawn) < _MAX_CURVES or limited:
                drawn.append(name)
        elif limited:
            missing = "its course was not recorded" if base else "the dense network has no value"
            left_out[label(name)] = missing
    return drawn, left_out


def _cost_curve(report: Report, name: str) -> Curve:
    base = _base(report, name)
    values = [
        (float(row["epoch"]), row["cost"][name]) for row in report["history"] if name in row["cost"]
    ]
    points = []
    for epoch, measurement in values:
        share = measurement["value"] / base
        points += [(epoch, share), (epoch + 1, share)]
    limit = report["budget"].get(name)
    # the limit is judged beside the dense network as it was measured at the end
    ends_at = limit["dense"] if limit and limit["dense"] else base
    return Curve(
        name=f"{label(name)} {percent(points[-1][1])}",
        points=points,
        style=f"c{_PREFERRED.index(name) if name in _PREFERRED else 6}",
        is_dashed=any(value["method"] == "estimated" for _, value in values),
        limit=limit["limit"] / ends_at if limit else None,
    )


def _base(report: Report, name: str) -> float:
    """The dense network's cost as the epochs' were taken: when the fit began."""
    first = report["phases"][0]["cost_before"].get(name) or report["dense"]["cost"][name]
    return float(first["value"])


def _epochs(report: Report) -> Axis:
    last = max(row["epoch"] for row in report["history"]) + 1
    return Axis(low=0, high=last, write=lambda value: f"{value:g}", title="epochs trained")


def _tints(report: Report) -> dict[str, str]:
    names = dict.fromkeys(phase["name"] for phase in report["phases"])
    return {name: f"p{index % _NUM_TINTS}" for index, name in enumerate(names)}


def _bands(report: Report, tints: Mapping[str, str]) -> list[Band]:
    return [
        Band(
            name=phase["name"],
            start=phase["start_epoch"],
            end=phase["end_epoch"] + 1,
            style=tints[phase["name"]],
        )
        for phase in report["phases"]
    ]


def _legend(curves: Sequence[Curve], tints: Mapping[str, str]) -> Markup:
    lines = [
        element("span", element("i", class_=f"line {curve.style}"), curve.name, class_="of-curve")
        for curve in curves
    ]
    areas = [
        element("span", element("i", class_=f"area {style}"), name) for name, style in tints.items()
    ]
    return element("p", join([*lines, *areas]), class_="legend")
