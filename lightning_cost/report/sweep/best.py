"""Which run is the best within a budget: within those of the sweep, and within tighter ones."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lightning_cost.cost.resource import Resource
from lightning_cost.report.markup import Markup, section, table
from lightning_cost.report.quantities import label, quantity
from lightning_cost.report.sections import marked, metric_cell
from lightning_cost.report.sweep.links import run_link
from lightning_cost.report.sweep.rows import Direction, SweepRow, is_resource, pareto_front

_MAX_BUDGETS = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class Best:
    """The best run within a budget.

    Args:
        limits: The budget, by resource.
        is_asked: Whether the sweep had this budget, and not only a wider one.
        metric: By which it is the best.
        run: Its directory; ``None`` where no run keeps the budget by a faithful file.
        value: Of the metric.
    """

    limits: Mapping[str, float]
    is_asked: bool
    metric: str
    run: str | None
    value: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def best_runs(
    rows: Sequence[SweepRow],
    objectives: Mapping[str, Direction],
    asked: Iterable[Mapping[str, float]] = (),
) -> list[Best]:
    """The best run by each metric of ``objectives`` and within each budget, widest first.

    After the budgets that were asked for come tighter ones of a single resource alone, down to
    the cheapest run: one for each further run that is the best there. A run whose file computes
    something else than was trained is never the best.

    Args:
        rows: The runs.
        objectives: Metrics and resources with their directions.
        asked: Further budgets, beside those of ``rows``.
    """
    budgets = _distinct([*asked, *(row.limits for row in rows)])
    rows = [row for row in rows if row.is_faithful]
    limited = dict.fromkeys(name for limits in budgets for name in limits)
    if len(budgets) > _MAX_BUDGETS:
        budgets = []  # percentages of what differs from run to run
    found: list[Best] = []
    for metric, direction in objectives.items():
        if is_resource(metric):
            continue
        within = [_best(rows, limits, metric, direction) for limits in budgets]
        found += within
        for name in limited:
            found += _tighter(rows, name, metric, direction, within)
    return found


def best(runs: Iterable[Best], rows: Sequence[SweepRow], resources: Sequence[str]) -> Markup | None:
    """One line for each budget: the best run, its metric and its costs.

    Args:
        runs: The best.
        rows: All runs.
        resources: Whose costs are shown.
    """
    row_of = {row.run: row for row in rows}
    metrics = list(dict.fromkeys(each.metric for each in runs))
    lines = []
    for each in runs:
        budget = ", ".join(
            f"{label(name)} ≤ {quantity(limit, Resource(name).unit)}"
            for name, limit in each.limits.items()
        )
        row = row_of.get(each.run) if each.run is not None else None
        lines.append(
            [
                f"{budget}{'' if each.is_asked else ', had it been the limit'}",
                "no run keeps it" if row is None else run_link(row.run),
                *([each.metric] if len(metrics) > 1 else []),
                metric_cell(each.metric, each.value),
                *(marked(row.cost.get(name) if row else None) for name in resources),
            ]
        )
    if not lines:
        return None
    by = ["metric"] if len(metrics) > 1 else []
    value = "value" if len(metrics) > 1 else metrics[0]
    header = ["budget", "best run", *by, value, *map(label, resources)]
    hint = (
        "Among the runs whose cost, as delivered, keeps the budget, and whose file computes what "
        "was trained."
    )
    return section("Best run per budget", table(header, lines, "best"), hint=hint)


def _best(
    rows: Sequence[SweepRow], limits: Mapping[str, float], metric: str, direction: Direction
) -> Best:
    """The best within ``limits``; the cheaper one where two are as good."""
    sign = 1 if direction == "max" else -1
    within = [
        ((sign * value, *(-(row.values[name] or 0.0) for name in limits)), row)
        for row in rows
        if (value := row.values.get(metric)) is not None and _keeps(row, limits)
    ]
    _, row = max(within, key=lambda each: each[0], default=(None, None))
    return Best(
        limits=limits,
        is_asked=True,
        metric=metric,
        run=None if row is None else row.run,
        value=None if row is None else row.values[metric],
    )


def _tighter(
    rows: Sequence[SweepRow],
    name: str,
    metric: str,
    direction: Direction,
    wider: Sequence[Best],
) -> list[Best]:
    """The runs that are the best within less of one resource than the budgets of ``wider``."""
    wider = [each for each in wider if name in each.limits]
    widest = max((each.limits[name] for each in wider), default=math.inf)
    known = {each.run for each in wider}
    front = pareto_front([row.values for row in rows], {name: "min", metric: direction})
    steps = {cost: rows[at] for at in front if (cost := rows[at].values[name]) is not None}
    return [
        Best(
            limits={name: cost},
            is_asked=False,
            metric=metric,
            run=row.run,
            value=row.values[metric],
        )
        for cost, row in sorted(steps.items(), key=lambda step: -step[0])
        if cost <= widest and row.run not in known
    ]


def _keeps(row: SweepRow, limits: Mapping[str, float]) -> bool:
    costs = {name: row.values.get(name) for name in limits}
    return all(cost is not None and cost <= limits[name] for name, cost in costs.items())


def _distinct(budgets: Iterable[Mapping[str, float]]) -> list[dict[str, float]]:
    """Each budget once, the widest first; none at all is left out."""
    seen = {tuple(sorted(limits.items())): dict(limits) for limits in budgets if limits}
    return sorted(seen.values(), key=lambda limits: [-limit for _, limit in sorted(limits.items())])
