"""What the runs of a sweep used together, and what was not spent on those that were never run."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from lightning_cost.report.markup import Markup, element, section, table
from lightning_cost.report.quantities import SPEND_UNITS, duration, label, quantity
from lightning_cost.report.sections import marked
from lightning_cost.report.study.record import Study
from lightning_cost.report.sweep.rows import SweepRow

_SURENESS = ("exact", "measured", "estimated")
_UNREPORTED = ("pruned", "failed", "running", "waiting")


Amounts = dict[str, dict[str, Any]]
"""Entries ``{value, unit, method, num_runs}``: a sum over the runs that know their amount, or
``None`` where none does."""


def total_spend(rows: Sequence[SweepRow]) -> Amounts:
    """Sums over the runs, each as sure as the least sure of its parts."""
    totals: Amounts = {}
    for name in dict.fromkeys(name for row in rows for name in row.spend):
        entries = [row.spend[name] for row in rows if name in row.spend]
        known = [entry for entry in entries if entry["value"] is not None]
        methods = [entry["method"] for entry in known]
        totals[name] = {
            "value": sum(entry["value"] for entry in known) if known else None,
            "unit": entries[0]["unit"],
            "method": max(methods, key=_SURENESS.index, default=None),
            "num_runs": len(known),
        }
    return totals


def saved_spend(totals: Mapping[str, Mapping[str, Any]], num_infeasible: int) -> Amounts:
    """What infeasible trials would have used, had each used as much as a run did on average.

    >>> used = {"usd": {"value": 6.0, "unit": "USD", "method": "exact", "num_runs": 3}}
    >>> saved_spend(used, 5)["usd"]["value"]
    10.0
    """
    if num_infeasible == 0:
        return {}
    return {
        name: {
            **entry,
            "value": entry["value"] / entry["num_runs"] * num_infeasible,
            "method": "estimated",
        }
        for name, entry in totals.items()
        if entry["value"] is not None
    }


def left_out(study: Study | None) -> dict[str, Any]:
    """How many trials left no report, by their state, and for how long they ran by the clock."""
    if study is None:
        return {"trials": {}, "seconds": 0.0}
    missing = [trial for trial in study.trials if trial.state in _UNREPORTED]
    return {
        "trials": dict(Counter(trial.state for trial in missing)),
        "seconds": sum(trial.seconds or 0.0 for trial in missing),
    }


def spend(document: Mapping[str, Any]) -> Markup | None:
    """The sums, what the constraint saved, and what neither includes."""
    totals, saved = document["spend"], document["saved"]
    if not totals and not document["left_out"]["trials"]:
        return None
    num_runs = len(document["runs"])
    header = ["", "spent", *(["not spent, about"] if saved else []), "runs that know it"]
    rows = [
        [
            label(name),
            marked(entry),
            *([marked(saved.get(name))] if saved else []),
            f"{entry['num_runs']} of {num_runs}",
        ]
        for name, entry in totals.items()
    ]
    used = (document["study"] or {}).get("used", {})
    notes = [*_saved_notes(document), *_left_out_notes(document["left_out"], used)]
    body = [table(header, rows)] if rows else []
    return section(
        "Spent on the sweep", *body, *(element("p", note, class_="aside") for note in notes)
    )


def _saved_notes(document: Mapping[str, Any]) -> list[str]:
    if not document["saved"]:
        return []
    infeasible = sum(trial["state"] == "infeasible" for trial in document["study"]["trials"])
    words = (
        "trial was known to break a limit and was"
        if infeasible == 1
        else ("trials were known to break a limit and were")
    )
    return [
        f"{infeasible} {words} not trained. What that saved is an estimate: as many times the mean "
        f"of the {len(document['runs'])} that were. Wider networks, which break limits first, "
        "usually take longer than the mean."
    ]


def _left_out_notes(missing: Mapping[str, Any], used: Mapping[str, float]) -> list[str]:
    if not missing["trials"]:
        return []
    trials = ", ".join(f"{number} {state}" for state, number in missing["trials"].items())
    clock = f"; by the clock they took {duration(missing['seconds'])}" if missing["seconds"] else ""
    notes = [f"Not in these sums, as they left no report: {trials}{clock}."]
    if used:
        told = [quantity(used[name], unit) for name, unit in SPEND_UNITS.items() if name in used]
        notes.append(f"With what they are known to have used, the sweep took {', '.join(told)}.")
    return notes
