"""The phases of a run, read off its history."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

UNNAMED_PHASE = "train"


def phases_of(
    history: Sequence[Mapping[str, Any]], dense_cost: Mapping[str, Any], metric: str | None
) -> list[dict[str, Any]]:
    """Runs of consecutive rows of one phase, with what each took and what it changed.

    Args:
        history: Rows ``{epoch, step, seconds, phase, cost, metrics}`` in order, with ``seconds``
            counted from the beginning of the run.
        dense_cost: The cost before the first row.
        metric: The metric to take from the last row of each phase.

    >>> rows = [{"epoch": 0, "seconds": 2.0, "phase": None, "cost": {}, "metrics": {}}]
    >>> phases_of(rows, {}, "val_acc")[0]["name"]
    'train'
    """
    phases: list[dict[str, Any]] = []
    cost_before, seconds_before = dense_cost, 0.0
    for name, run in groupby(history, key=lambda row: row["phase"] or UNNAMED_PHASE):
        rows = list(run)
        first, last = rows[0], rows[-1]
        seconds = last.get("seconds")
        phases.append(
            {
                "name": name,
                "start_epoch": first["epoch"],
                "end_epoch": last["epoch"],
                "seconds": None if seconds is None else max(0.0, seconds - seconds_before),
                "cost_before": cost_before,
                "cost_after": last["cost"],
                "metric": last["metrics"].get(metric) if metric else None,
            }
        )
        cost_before = last["cost"]
        seconds_before = seconds_before if seconds is None else seconds
    return phases
