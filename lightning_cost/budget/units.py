"""Quantities that people write, such as ``"4 ms"``, ``"300 kB"`` or ``"50%"``, as numbers."""

import math
import re
from dataclasses import dataclass
from typing import TypeAlias

from lightning_cost.cost.resource import Resource

Written: TypeAlias = float | int | str
"""A limit as a person writes it: a number in the unit of the name, or a text with a unit."""

_TEXT = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([^\d\s]\S*(?:\s\S+)*)?\s*")
_PREFIXES = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_BYTES = {
    **{f"{prefix}B": factor for prefix, factor in _PREFIXES.items()},
    "KiB": 2.0**10,
    "MiB": 2.0**20,
    "GiB": 2.0**30,
}
_SECONDS = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
}
_JOULES = {
    "nJ": 1e-9,
    "uJ": 1e-6,
    "µJ": 1e-6,
    "mJ": 1e-3,
    "J": 1.0,
    "kJ": 1e3,
    "Wh": 3.6e3,
    "kWh": 3.6e6,
    "MWh": 3.6e9,
}


@dataclass(frozen=True, slots=True)
class Quantity:
    """A parsed limit.

    Args:
        value: In the unit of the argument's name, or the fraction that a percentage stands for.
        is_ratio: Whether ``value`` is a fraction of something else.
    """

    value: float
    is_ratio: bool = False


def parse_quantity(written: Written, name: str) -> Quantity:
    """What ``written`` means for the argument or resource ``name``.

    Plain numbers are in the unit of the name. Prefixes are decimal (1 kB = 1000 B); binary ones
    are spelled KiB, MiB, GiB. A percentage must lie above 0% and at 100% or below.

    >>> parse_quantity("4 ms", "latency_ms"), parse_quantity("2h", "wall_clock_s").value
    (Quantity(value=4.0, is_ratio=False), 7200.0)
    >>> parse_quantity("1.2 GMACs", "macs").value, parse_quantity("50%", "macs")
    (1200000000.0, Quantity(value=0.5, is_ratio=True))

    Raises:
        TypeError: If ``written`` is neither a number nor a text.
        ValueError: If it is no number, not above zero, not finite or in an unknown unit.
    """
    units = units_of(name)
    if isinstance(written, bool) or not isinstance(written, (int, float, str)):
        raise TypeError(
            f"{name} must be a number or a text with a unit, got {written!r}; "
            f"write for example {_example(name, units)}"
        )
    if isinstance(written, str):
        value, unit = _split(written, name, units)
    else:
        value, unit = float(written), None
    if not math.isfinite(value) or value <= 0:
        raise ValueError(
            f"{name} must be > 0 and finite, got {written!r}; leave it out for no limit"
        )
    if unit == "%":
        return _ratio(value, written, name)
    return Quantity(value if unit is None else value * units[unit])


def units_of(name: str) -> dict[str, float]:
    """The units that the argument ``name`` understands, each with its factor.

    Raises:
        ValueError: If no budget has an argument of that name.
    """
    if name not in _UNITS:
        raise ValueError(
            f"a limit must be on one of {', '.join(_UNITS)}, got {name!r}; check its spelling"
        )
    return _UNITS[name]


def _split(text: str, name: str, units: dict[str, float]) -> tuple[float, str | None]:
    """The number and the unit in ``text``; the unit is ``None`` where there is none."""
    match = _TEXT.fullmatch(text)
    if match is None:
        try:
            return float(text), None  # inf and nan, to be refused as such
        except ValueError:
            raise ValueError(
                f"{name} must be a number, with a unit or without, got {text!r}; "
                f"write for example {_example(name, units)}"
            ) from None
    number, unit = match.groups()
    for noun in _NOUNS.get(name, ()):
        unit = unit.removesuffix(noun).rstrip() if unit is not None else None
    if unit is not None and unit != "%" and unit not in units:
        known = ", ".join([*filter(None, units), "%"])
        raise ValueError(
            f"{name} must be in a known unit ({known}), got {text!r}; "
            f"write for example {_example(name, units)}"
        )
    return float(number), unit


def _ratio(percent: float, written: Written, name: str) -> Quantity:
    if percent > 100:
        raise ValueError(
            f"{name} must be at most 100% of the dense network, got {written!r}; "
            "leave it out for no limit"
        )
    return Quantity(percent / 100, is_ratio=True)


def _example(name: str, units: dict[str, float]) -> str:
    unit = next((unit for unit, factor in units.items() if factor == 1.0 and unit), "M")
    return f"{name}='2 {unit}'"


def _scaled(units: dict[str, float], one: float) -> dict[str, float]:
    """``units`` with factors relative to the unit whose factor is ``one``."""
    return {unit: factor / one for unit, factor in units.items()}


_DOLLARS = {"USD": 1.0, "usd": 1.0, "$": 1.0}
_UNITS: dict[str, dict[str, float]] = {
    Resource.macs.value: _PREFIXES,
    Resource.flops.value: _PREFIXES,
    Resource.params.value: _PREFIXES,
    Resource.size_bytes.value: _BYTES,
    Resource.peak_memory_bytes.value: _BYTES,
    Resource.latency_ms.value: _scaled(_SECONDS, _SECONDS["ms"]),
    Resource.energy_mj.value: _scaled(_JOULES, _JOULES["mJ"]),
    Resource.usd_per_million.value: _DOLLARS,
    "wall_clock_s": _SECONDS,
    "energy_kwh": _scaled(_JOULES, _JOULES["kWh"]),
    "usd": _DOLLARS,
    "co2_kg": {"g": 1e-3, "kg": 1.0, "t": 1e3},
}
_NOUNS = {
    Resource.macs.value: ("MACs", "MAC"),
    Resource.flops.value: ("FLOPs", "FLOP"),
    Resource.params.value: ("params", "parameters"),
}
