"""What a sweep looks for: a metric or a resource of each run's report, and which way is better."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from lightning_cost.cost.resource import Resource
from lightning_cost.report.quantities import is_better_when_lower

Direction: TypeAlias = Literal["minimize", "maximize"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective:
    """One number of a run's report that is to be small or large.

    Args:
        name: Of a resource, or of a metric.
        direction: ``"minimize"`` or ``"maximize"``.
    """

    name: str
    direction: Direction

    @property
    def is_resource(self) -> bool:
        """Whether it is a cost of the final network."""
        return self.name in {resource.value for resource in Resource}

    def of(self, report: Mapping[str, Any]) -> float:
        """Its value in a report.

        Raises:
            ValueError: If the report lacks it, or holds no finite number.

        >>> report = {"final": {"metrics": {"val/accuracy": 0.9}, "cost": {}}}
        >>> Objective(name="val/accuracy", direction="maximize").of(report)
        0.9
        """
        final = report["final"]
        costs = {name: entry["value"] for name, entry in final["cost"].items()}
        known = final["metrics"] | costs
        if self.name not in known:
            raise ValueError(
                f"objectives must be in the runs' reports, got {self.name!r}; "
                f"there are {', '.join(known)}"
            )
        value = known[self.name]
        if value is None or not math.isfinite(value):
            raise ValueError(f"{self.name} of the run is not a finite number")
        return float(value)


def objectives_of(written: Sequence[str] | Mapping[str, str]) -> tuple[Objective, ...]:
    """Objectives from names, or from names and directions.

    Raises:
        ValueError: If there is none, one is named twice or a direction is unknown.

    >>> [(each.name, each.direction) for each in objectives_of(["val/accuracy", "latency_ms"])]
    [('val/accuracy', 'maximize'), ('latency_ms', 'minimize')]
    """
    directions = (
        dict(written)
        if isinstance(written, Mapping)
        else {name: _direction(name) for name in written}
    )
    if not directions or len(directions) != len(written):
        raise ValueError(
            "objectives must name one or several numbers, each once, got "
            f"{list(written)}; for example [val/accuracy, latency_ms]"
        )
    objectives = []
    for name, direction in directions.items():
        if direction not in ("minimize", "maximize"):
            raise ValueError(
                f"objectives must be minimized or maximized, got {name}: {direction}; write "
                f"{name}: minimize"
            )
        objectives.append(Objective(name=name, direction=direction))  # type: ignore[arg-type]
    return tuple(objectives)


def require_reported(objectives: Sequence[Objective], metrics: Sequence[str]) -> None:
    """Refuse objectives that no report will hold.

    Args:
        objectives: Of the sweep.
        metrics: That the runs' reports hold.

    Raises:
        ValueError: Names the first such objective, and what there is.
    """
    for objective in objectives:
        if not objective.is_resource and objective.name not in metrics:
            known = [*metrics, *(resource.value for resource in Resource)]
            raise ValueError(
                f"objectives must be in the runs' reports, got {objective.name!r}; "
                f"there are {', '.join(known)}"
            )


def _direction(name: str) -> Direction:
    is_cost = name in {resource.value for resource in Resource}
    return "minimize" if is_cost or is_better_when_lower(name) else "maximize"
