"""The entries of a price file: each a value with its unit, a source and a date."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_TEXT = re.compile(r"\s*([+-]?[\d.]+(?:[eE][+-]?\d+)?|[+-]?\.?(?:nan|inf))\s*([A-Za-z].*?)\s*")
_MASSES = {"g": 1e-3, "kg": 1.0}
_ENTRIES = ("value", "source", "date")
_EXAMPLES = {
    "electricity": "0.16 USD/kWh",
    "grid": "445 g/kWh",
    "rents": "32.77 USD/h",
    "exchange": "1.08 USD",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One number, with where and when it was read.

    Args:
        value: In ``unit``.
        unit: ``"USD/kWh"``, ``"kg/kWh"``, ``"USD/h"``, or ``""`` for a ratio.
        source: Where it comes from.
        date: When the source was published or read.
        entry: Its place in the price file, such as ``"grid.france"``.
    """

    value: float
    unit: str
    source: str
    date: str
    entry: str

    def __str__(self) -> str:
        return f"{self.value:g} {self.unit} ({self.entry}; {self.source}; {self.date})".replace(
            "  ", " "
        )


def parse_section(content: Mapping[str, Any], section: str) -> Mapping[str, Any]:
    """The entries of a section by name; none where the file has no such section.

    Raises:
        ValueError: If it does not hold names and figures.
    """
    entries = content.get(section) or {}
    if not isinstance(entries, Mapping):
        raise ValueError(
            f"{section} of a price file must hold names and figures, got {entries!r}; "
            "see conf/prices.yaml"
        )
    return entries


def parse_figure(entry: Any, place: str, *, rates: Mapping[str, float]) -> Figure:
    """A figure with a unit, turned into US dollars or kilograms.

    Args:
        entry: A value with its unit, a source and a date.
        place: Where it stands, such as ``"grid.france"``; says which units it may have.
        rates: US dollars for one unit of each currency.

    Raises:
        ValueError: If something is missing, negative, not finite, or in an unknown unit or
            currency.
    """
    _check_entry(entry, place)
    section = place.partition(".")[0]
    text, example = entry["value"], _EXAMPLES[section]
    match = _TEXT.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(
            f"{place} must be a number with its unit, got {text!r}; write for example {example}"
        )
    number, unit = match.groups()
    value = _number(number.replace(".nan", "nan").replace(".inf", "inf"), place)
    first, _, per = unit.partition("/")
    if per != example.partition("/")[2]:
        raise ValueError(
            f"{place} must be in a unit like that of {example}, got {text!r}; convert it"
        )
    factors = _MASSES if section == "grid" else rates
    if first not in factors:
        if section == "grid":
            raise ValueError(f"{place} must be in g/kWh or kg/kWh, got {text!r}; convert it")
        raise ValueError(
            f"{place} must be in a known currency ({', '.join(rates)}), got {text!r}; "
            f"add its rate to the price file, as in exchange: {{{first}: {{value: 1.08 USD, "
            "source: ..., date: ...}}"
        )
    shown = f"{'kg' if section == 'grid' else 'USD'}/{per}".rstrip("/")
    value *= factors[first]
    return Figure(
        value=value,
        unit=shown,
        source=str(entry["source"]),
        date=str(entry["date"]),
        entry=place,
    )


def parse_pue(entry: Any) -> Figure:
    """The power usage effectiveness.

    Raises:
        ValueError: If something is missing, or it is below 1.
    """
    _check_entry(entry, "pue")
    value = entry["value"]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"pue must be a ratio without a unit, got {value!r}; write 1.56")
    if not (math.isfinite(value) and value >= 1):
        raise ValueError(
            f"pue must be >= 1, as a data centre draws what its machines draw and more, got {value}"
        )
    return Figure(
        value=float(value),
        unit="",
        source=str(entry["source"]),
        date=str(entry["date"]),
        entry="pue",
    )


def _check_entry(entry: Any, place: str) -> None:
    if not isinstance(entry, Mapping) or any(entry.get(name) is None for name in _ENTRIES):
        raise ValueError(
            f"{place} of a price file must have a value, a source and a date, got {entry!r}; "
            "see conf/prices.yaml"
        )
    extra = () if not place.startswith("rents.") else ("hardware", "num_devices")
    unknown = sorted(set(entry) - {*_ENTRIES, *extra})
    if unknown:
        raise ValueError(
            f"{place} of a price file must have known entries "
            f"({', '.join((*_ENTRIES, *extra))}), got {', '.join(unknown)}; check the spelling"
        )


def parse_devices(entry: Mapping[str, Any], place: str) -> dict[str, Any]:
    """What devices an instance has, and how many.

    Raises:
        ValueError: If that is not said.
    """
    hardware, num_devices = entry.get("hardware"), entry.get("num_devices", 1)
    if not isinstance(hardware, str) or not isinstance(num_devices, int) or num_devices < 1:
        raise ValueError(
            f"{place} must name its hardware and num_devices >= 1, got {hardware!r} and "
            f"{num_devices!r}; see conf/prices.yaml"
        )
    return {"hardware": hardware, "num_devices": num_devices}


def _number(text: str, place: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{place} must be >= 0 and finite, got {text}; correct the price file")
    return value
