"""The best value of a study so far, trial by trial."""

from lightning_cost.cost.resource import Resource
from lightning_cost.report.charts import Axis, Curve, Dot, curve_chart
from lightning_cost.report.markup import Markup, element, section
from lightning_cost.report.quantities import is_share, label, quantity
from lightning_cost.report.study.record import Study
from lightning_cost.report.sweep.rows import is_resource

_HINT = "Line: the best so far among trials that kept every limit. Dots: finished trials."


def best_so_far(study: Study, objective: str) -> list[tuple[int, float]]:
    """The best value of the finished trials up to each, limits kept, by the trial's number.

    >>> from lightning_cost.report.study.record import TrialRecord
    >>> trials = tuple(
    ...     TrialRecord(number=number, state="finished", values={"acc": value})
    ...     for number, value in enumerate([0.5, 0.4, 0.7])
    ... )
    >>> best_so_far(Study(name="sweep", objectives={"acc": "max"}, trials=trials), "acc")
    [(0, 0.5), (1, 0.5), (2, 0.7)]
    """
    better = max if study.objectives[objective] == "max" else min
    points: list[tuple[int, float]] = []
    for trial in study.of_state("finished"):
        value = trial.values.get(objective)
        if value is None or trial.violations:
            continue
        points.append((trial.number, better([value, *(best for _, best in points[-1:])])))
    return points


def history(study: Study) -> Markup | None:
    """One chart for each objective."""
    charts = [chart for name in study.objectives if (chart := _chart(study, name)) is not None]
    return section("Best value over trials", *charts, hint=_HINT) if charts else None


def _chart(study: Study, objective: str) -> Markup | None:
    points = best_so_far(study, objective)
    if not points:
        return None
    values = [t.values[objective] for t in study.of_state("finished") if objective in t.values]
    shares = all(is_share(objective, value) for value in values)

    def write(value: float) -> str:
        if is_resource(objective):
            return quantity(value, Resource(objective).unit)
        return f"{100 * value:.4g} %" if shares else f"{value:.3g}"

    dots = [
        Dot(
            label="",
            x=trial.number,
            y=trial.values[objective],
            style="not-kept" if trial.violations else "judged",
            tip=f"trial {trial.number}: {write(trial.values[objective])}",
        )
        for trial in study.of_state("finished")
        if objective in trial.values
    ]
    last = max(trial.number for trial in study.trials)
    stairs = [points[0]]
    for number, best in [*points[1:], (last, points[-1][1])]:
        stairs += [(number, stairs[-1][1]), (number, best)]
    pad = 0.1 * ((max(values) - min(values)) or abs(max(values)) or 1.0)
    chart = curve_chart(
        [Curve(name="best so far", points=stairs, style="c0")],
        bands=[],
        x=Axis(
            low=0,
            high=max(1, last),
            write=lambda value: f"{value:g}",
            title="trial",
            is_whole=True,
        ),
        y=Axis(
            low=min(values) - pad,
            high=max(values) + pad,
            write=write,
            title=label(objective),
        ),
        height=240,
        dots=dots,
    )
    return element("div", element("h3", label(objective)), chart)
