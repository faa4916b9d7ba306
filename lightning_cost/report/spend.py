"""What a run used, each amount with its unit, its origin and what it rests on."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

SPEND_UNITS = {
    "train_flops": "FLOP",
    "eval_flops": "FLOP",
    "search_flops": "FLOP",
    "wall_clock_s": "s",
    "energy_kwh": "kWh",
    "measured_energy_kwh": "kWh",
    "co2_kg": "kg CO2",
    "usd": "USD",
}
_METHODS = {
    "train_flops": "exact",
    "eval_flops": "exact",
    "search_flops": "estimated",
    "wall_clock_s": "measured",
    "energy_kwh": "estimated",
    "measured_energy_kwh": "measured",
    "co2_kg": "estimated",
    "usd": "estimated",
}


def spend_entries(
    values: Mapping[str, float | None],
    assumptions: Mapping[str, str] | None = None,
    *,
    estimated: Collection[str] = (),
) -> dict[str, dict[str, Any]]:
    """Amounts as ``build_report`` takes them: FLOPs counted, time measured, the rest estimated.

    Args:
        values: Amounts by the names of ``SPEND_UNITS``; one left out or ``None`` is not known.
        assumptions: What each amount rests on, or why it is not known.
        estimated: Names of amounts that are usually exact, and are estimates in this run.

    Raises:
        ValueError: If a name is none of ``SPEND_UNITS``.

    >>> spend_entries({"usd": 2.0}, {"usd": "1 USD an hour"})["usd"]
    {'value': 2.0, 'method': 'estimated', 'assumptions': '1 USD an hour'}
    """
    notes = assumptions or {}
    _check_names([*values, *notes, *estimated])
    return {
        name: {
            "value": values.get(name),
            "method": "estimated" if name in estimated else method,
            "assumptions": notes.get(name, ""),
        }
        for name, method in _METHODS.items()
    }


def complete_spend(spend: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """An entry for every name of ``SPEND_UNITS``, with its unit; what is not known is named.

    Raises:
        ValueError: If an amount has no method, or a name is none of ``SPEND_UNITS``.
    """
    _check_names(spend)
    return {name: _spent(name, spend.get(name)) for name in SPEND_UNITS}


def all_flops(spent: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """FLOPs of training, validation and search together, as sure as the least sure of them."""
    parts = [spent[name] for name in ("train_flops", "eval_flops", "search_flops")]
    values = [part["value"] for part in parts]
    total = None if None in values else sum(values)
    methods = {part["method"] for part in parts}
    least_sure = next((name for name in ("estimated", "measured") if name in methods), "exact")
    return {"value": total, "unit": "FLOP", "method": None if total is None else least_sure}


def _check_names(names: Iterable[str]) -> None:
    for name in names:
        if name not in SPEND_UNITS:
            raise ValueError(f"spend must name one of {', '.join(SPEND_UNITS)}, got {name!r}")


def _spent(name: str, entry: Mapping[str, Any] | None) -> dict[str, Any]:
    entry = entry or {"assumptions": "not recorded"}
    value = entry.get("value")
    method = entry.get("method") if value is not None else None
    if value is not None and method is None:
        raise ValueError(
            f"spend[{name!r}] must say its method (exact, measured or estimated), got none"
        )
    return {
        "value": value,
        "unit": SPEND_UNITS[name],
        "method": method,
        "assumptions": entry.get("assumptions") or ("" if value is not None else "not known"),
    }
