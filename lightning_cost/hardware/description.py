"""What the description of a device may say, and what it must."""

import math
from collections.abc import Mapping
from types import NoneType
from typing import Any, get_args, get_origin

from lightning_cost.hardware.catalogue import known_hardware
from lightning_cost.hardware.prices import check_utilisation

KINDS = ("local", "server", "gpu", "laptop", "board", "phone", "microcontroller")
FIGURES = (
    "peak_gmacs_fp32",
    "peak_gmacs_fp16",
    "peak_gmacs_int8",
    "bandwidth_gb_s",
    "memory_bytes",
    "sram_bytes",
    "flash_bytes",
    "power_w",
    "price_usd_per_hour",
)
_ORIGINS = ("data_sheet", "derived", "measured", "list_price")
_PRECISIONS = ("float32", "bfloat16")
_TYPES: dict[Any, tuple[Any, str]] = {
    str: (str, "a text"),
    bool: (bool, "true or false"),
    int: (int, "a whole number"),
    float: ((int, float), "a number"),
}


def check_description(values: Mapping[str, Any], types: Mapping[str, Any]) -> None:
    """Refuse what is no device.

    Args:
        values: Of all fields of a :class:`Hardware`, by name.
        types: Of the same fields.

    Raises:
        ValueError: If a value is of another type, a figure is not positive, or a word unknown; if
            a device that is not local lacks what its latency is estimated from.
    """
    device = values["name"]
    _check_types(device, values, types)
    for name in ("num_threads", "batch_size", *FIGURES):
        value = values[name]
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ValueError(
                f"{name} of hardware {device!r} must be > 0, got {value!r}; "
                "leave it out where it is unknown"
            )
    check_utilisation(values["utilisation"])
    if values["kind"] not in KINDS:
        raise ValueError(
            f"kind of hardware {device!r} must be one of {', '.join(KINDS)}, got "
            f"{values['kind']!r}; choose the nearest"
        )
    if values["precision"] not in _PRECISIONS:
        raise ValueError(
            f"precision must be one of {', '.join(_PRECISIONS)}, got {values['precision']!r}; "
            "int8 follows from the quantised network itself"
        )
    _check_provenance(device, values["provenance"])
    if not values["is_local"]:
        _require_estimable(device, values)


def _check_types(device: str, values: Mapping[str, Any], types: Mapping[str, Any]) -> None:
    """Refuse what a file may hold and a configuration may not: another type than a field's."""
    for name, value in values.items():
        allowed = get_args(types[name])
        if not allowed or get_origin(types[name]) is dict:
            allowed = (types[name],)
        if value is None and NoneType in allowed:
            continue
        kinds, wanted = _TYPES.get(allowed[0], (dict, "names and values"))
        is_number = kinds is not bool and isinstance(value, bool)
        if is_number or not isinstance(value, kinds):
            raise ValueError(
                f"{name} of hardware {device!r} must be {wanted}, got {value!r}; "
                "see conf/hardware/raspberry_pi_4.yaml"
            )


def _check_provenance(device: str, provenance: Mapping[str, str]) -> None:
    for name, origin in provenance.items():
        if name not in FIGURES or origin not in _ORIGINS:
            raise ValueError(
                f"provenance of hardware {device!r} must say of a figure "
                f"({', '.join(FIGURES)}) that it is one of {', '.join(_ORIGINS)}, got "
                f"{name}: {origin}; see conf/hardware/raspberry_pi_4.yaml"
            )


def _require_estimable(device: str, values: Mapping[str, Any]) -> None:
    for name in ("peak_gmacs_fp32", "bandwidth_gb_s", "source", "date"):
        if values[name] is None:
            raise ValueError(
                f"{name} must be given for hardware that is not local, got None for "
                f"{device!r}; take it from the data sheet, or set is_local: true. "
                f"Described devices: {', '.join(known_hardware())}"
            )
    if values["latency_table"] is not None:
        raise ValueError(
            f"latency_table must be of this machine, got {values['latency_table']!r} for "
            f"hardware {device!r}, whose latency is estimated; leave it out"
        )
