"""Quality against cost: the runs of a sweep, and the trials that never got so far."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lightning_cost.cost.resource import Resource
from lightning_cost.report.charts import Axis, Curve, Dot, Shape, mark, scatter_chart
from lightning_cost.report.markup import Markup, element
from lightning_cost.report.quantities import is_share, label, metric_value, origin, quantity, tick
from lightning_cost.report.study.facts import over
from lightning_cost.report.study.record import Study, TrialRecord
from lightning_cost.report.sweep.rows import Direction, SweepRow, pareto_front

_KINDS: Mapping[str, tuple[Shape, str]] = {
    "on-front": ("circle", "no run is both cheaper and better"),
    "off-front": ("circle", "beaten"),
    "not-kept": ("square", "a limit, or parity, was not kept"),
    "infeasible": ("cross", "infeasible, never trained"),
    "pruned": ("triangle", "pruned"),
    "dense-dot": ("circle", "dense network"),
}
_MAX_LIMITS = 4
_MAX_NAMED = 8


def quality_plot(
    rows: Sequence[SweepRow],
    name: str,
    metric: str,
    direction: Direction,
    study: Study | None = None,
) -> Markup | None:
    """The runs and their dense networks, with the front of these two objectives alone.

    Trials that were not trained to their end stand at the cost that was predicted: infeasible ones
    at the foot, pruned ones at what they had reached. What lies outside of the axes is drawn at
    their edge.

    Args:
        rows: The runs.
        name: Of the resource.
        metric: Of the runs.
        direction: Of the metric.
        study: The study that chose the runs.

    Returns:
        ``None`` where no run knows both.
    """
    known = known_rows(rows, name, metric)
    if not known:
        return None
    unit = Resource(name).unit
    pairs: list[Mapping[str, float | None]] = [
        {"x": cost["value"], "y": value} for _, cost, value in known
    ]
    best = set(pareto_front(pairs, {"x": "min", "y": direction}))
    runs = [
        _run_dot(
            *each, metric, on_front=at in best, is_named=at in best or len(known) <= _MAX_NAMED
        )
        for at, each in enumerate(known)
    ]
    drawn = {(dot.x, dot.y) for dot in runs}
    dense = [dot for dot in dense_dots(rows, name, metric) if (dot.x, dot.y) not in drawn]
    # the front on top of what it hides
    dots = [*dense, *sorted(runs, key=lambda dot: dot.style == "on-front")]
    limits = sorted({row.limits[name] for row in rows if name in row.limits})
    limits = limits if len(limits) <= _MAX_LIMITS else []
    corners = sorted(
        (cost["value"], value) for at, (_, cost, value) in enumerate(known) if at in best
    )
    room = 1.06 if study is None else 1.6  # for those that are a little too dear
    x = Axis(
        low=0,
        high=max([*(1.06 * dot.x for dot in dots), *(room * limit for limit in limits)]),
        write=lambda value: tick(value, unit),
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
    bounds = [
        Curve(name=f"limit {quantity(limit, unit)}", points=[(limit, y.low), (limit, y.high)],
              style="bound", is_dashed=True)
        for limit in limits
    ]  # fmt: skip
    untrained = _untrained(study, name, metric, x, y)
    num_beyond = sum(dot.style == "infeasible" and dot.x >= x.high for dot in untrained)
    note = f"{num_beyond} of the infeasible trials cost more than is drawn." if num_beyond else None
    return element(
        "div",
        element("h3", f"{metric} against {label(name)}"),
        scatter_chart([*untrained, *dots], front=corners, lines=bounds, x=x, y=y),
        element("p", note, class_="hint") if note else None,
    )


def kinds_of(plots: Iterable[str]) -> list[str]:
    """The marks that stand in some plot."""
    drawn = list(plots)
    return [kind for kind in _KINDS if any(f'class="{kind}"' in plot for plot in drawn)]


def key(kinds: Iterable[str]) -> Markup:
    """What each shape and colour stands for."""
    shown = set(kinds)
    entries = [
        element(
            "span",
            element("svg", mark(_KINDS[kind][0], kind), viewBox="-7 -7 14 14", class_="mark"),
            _KINDS[kind][1],
        )
        for kind in _KINDS
        if kind in shown
    ]
    return element("p", *entries, class_="legend")


def known_rows(
    rows: Sequence[SweepRow], name: str, metric: str
) -> list[tuple[SweepRow, Mapping[str, Any], float]]:
    """The runs whose cost and metric are both known, with these."""
    return [
        (row, row.cost[name], value)
        for row in rows
        if name in row.cost and (value := row.values.get(metric)) is not None
    ]


def dense_dots(rows: Sequence[SweepRow], name: str, metric: str) -> list[Dot]:
    """The dense networks of the runs, each once."""
    points = dict.fromkeys(
        (row.dense_cost[name]["value"], row.dense_metric)
        for row in rows
        if name in row.dense_cost and row.dense_metric is not None and row.metric == metric
    )
    return [Dot(label="", x=x, y=y, style="dense-dot", tip="dense network") for x, y in points]


def _run_dot(
    row: SweepRow,
    cost: Mapping[str, Any],
    value: float,
    metric: str,
    *,
    on_front: bool,
    is_named: bool,
) -> Dot:
    style = "not-kept" if row.broken else "on-front" if on_front else "off-front"
    return Dot(
        label=row.run.rpartition("/")[2] if is_named else "",
        x=cost["value"],
        y=value,
        style=style,
        tip=f"{row.run}: {quantity(cost['value'], cost['unit'])}, {metric_value(metric, value)}",
        shape=_KINDS[style][0],
    )


def _untrained(study: Study | None, name: str, metric: str, x: Axis, y: Axis) -> list[Dot]:
    """Infeasible and pruned trials whose cost was predicted, within the axes."""
    trials = study.of_state("infeasible", "pruned") if study is not None else []
    dots = []
    for trial in trials:
        cost = trial.predicted.get(name)
        if cost is None:
            continue
        assert study is not None
        reached = trial.reached if list(study.objectives) == [metric] else None
        dots.append(
            Dot(
                label="",
                x=min(cost, x.high),
                y=y.low if reached is None else min(max(reached, y.low), y.high),
                style=trial.state,
                tip=_words(trial, quantity(cost, Resource(name).unit), metric, reached),
                shape=_KINDS[trial.state][0],
            )
        )
    return dots


def _words(trial: TrialRecord, cost: str, metric: str, reached: float | None) -> str:
    broken = [over(name, excess) for name, excess in trial.violations.items()]
    text = ", ".join([f"trial {trial.number}, {trial.state}: {cost} predicted", *broken])
    return text if reached is None else f"{text}, {metric_value(metric, reached)} when stopped"
