"""Tables for a terminal: one run before and after, and one line per run of a sweep."""

from collections.abc import Mapping, Sequence
from typing import Any

from lightning_cost.report.quantities import (
    conditions,
    cost_change,
    label,
    marked_text,
    metric_change,
    metric_text,
    percent,
    quantity,
)


def cost_table(report: Mapping[str, Any]) -> str:
    """The cost and the metrics before and after, against the limits, as plain text."""
    dense, final = report["dense"], report["final"]
    rows = [["", "dense", "as deployed", "change", "limit", "headroom"]]
    for name in dict.fromkeys([*dense["cost"], *final["cost"], *report["budget"]]):
        before, after = dense["cost"].get(name), final["cost"].get(name)
        ratio = cost_change(before, after)
        limit = report["budget"].get(name)
        rows.append([label(name), marked_text(before), marked_text(after), ratio, *_limit(limit)])
    for name in dict.fromkeys([*dense["metrics"], *final["metrics"]]):
        values = dense["metrics"].get(name), final["metrics"].get(name)
        cells = [metric_text(name, value) for value in values]
        rows.append([name, *cells, metric_change(name, *values), "", ""])
    for name, entry in report["training_budget"].items():
        rows.append([f"{label(name)} of the run", "", marked_text(entry), "", *_limit(entry)])
    notes = _conditions(report)
    return "\n".join([aligned(rows), *notes])


def _limit(entry: Mapping[str, Any] | None) -> list[str]:
    if entry is None:
        return ["", ""]
    room = "not kept: unknown" if entry["headroom"] is None else percent(entry["headroom"])
    if entry["headroom"] is not None:
        room += " kept" if entry["kept"] else " NOT KEPT"
    return [quantity(entry["limit"], entry["unit"]), room]


def _conditions(report: Mapping[str, Any]) -> list[str]:
    """One line for each value that depends on a device."""
    return [
        f"{label(name)}, {word}: {conditions(value, report[stage].get('bits', {}).values())}"
        for stage, word in (("dense", "dense"), ("final", "as deployed"))
        for name, value in report[stage]["cost"].items()
        if value.get("runtime") or value.get("device")
    ]


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as columns of text, the first row ruled off.

    >>> print(aligned([["run", "size"], ["a", "1 B"]]))
    run  size
    ---------
    a    1 B
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    rule = "-" * max(map(len, lines))
    return "\n".join([lines[0], rule, *lines[1:]])
