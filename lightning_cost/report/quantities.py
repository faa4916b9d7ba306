"""Numbers as people read them: three figures, a unit, and a name for what is missing."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from lightning_cost.cost.measurement import Measurement

UNKNOWN = "not known"
LABELS = {
    "macs": "MACs",
    "flops": "FLOPs",
    "params": "parameters",
    "size_bytes": "size",
    "peak_memory_bytes": "peak memory",
    "latency_ms": "latency",
    "energy_mj": "energy",
    "usd_per_million": "price",
    "train_flops": "training compute",
    "eval_flops": "validation compute",
    "search_flops": "search compute",
    "wall_clock_s": "wall clock",
    "energy_kwh": "energy",
    "measured_energy_kwh": "energy by counters",
    "co2_kg": "CO2",
    "usd": "price",
}
SPEND_UNITS = {
    "wall_clock_s": "s",
    "flops": "FLOP",
    "energy_kwh": "kWh",
    "usd": "USD",
    "co2_kg": "kg",
}
"""Of what a training budget can limit."""
_PREFIXED = {"MAC": " MACs", "FLOP": " FLOPs", "parameter": " parameters", "B": "B"}
_PREFIXES = ("", "k", "M", "G", "T", "P", "E")


def label(name: str) -> str:
    """The word for a resource or a kind of spend; a name that has none stands for itself."""
    return LABELS.get(name, name)


def quantity(value: float | None, unit: str) -> str:
    """A value with its unit.

    >>> quantity(40_551_000, "MAC"), quantity(1.6, "ms"), quantity(None, "ms")
    ('40.6 M MACs', '1.60 ms', 'not known')
    """
    if value is None or not math.isfinite(value):
        return UNKNOWN
    if unit in _PREFIXED:
        return _prefixed(value, _PREFIXED[unit])
    if unit == "s":
        return duration(value)
    if unit.startswith("USD"):
        return f"${figures(value)}{unit.removeprefix('USD')}"
    return f"{figures(value)} {unit}"


def tick(value: float, unit: str) -> str:
    """As :func:`quantity`, without the word for what is counted: the axis has it in its title.

    >>> tick(25_000, "parameter"), tick(1.6, "ms")
    ('25.0 k', '1.60 ms')
    """
    text = quantity(value, unit)
    return (
        text.removesuffix(_PREFIXED[unit]).rstrip() if unit in _PREFIXED and unit != "B" else text
    )


def figures(value: float) -> str:
    """Three significant figures, without an exponent where one can do without.

    >>> figures(3.3561), figures(0.97), figures(1284.0), figures(0)
    ('3.36', '0.970', '1,284', '0')
    """
    if value == 0:
        return "0"
    if abs(value) < 1e-4 or abs(value) >= 1e7:
        return f"{value:.2e}"
    exponent = math.floor(math.log10(abs(float(f"{value:.2e}"))))
    return f"{value:,.{max(0, 2 - exponent)}f}"


def duration(seconds: float) -> str:
    """A time in the units of a clock.

    >>> duration(41.3), duration(754), duration(7260)
    ('41.3 s', '12 min 34 s', '2 h 1 min')
    """
    if seconds < 59.95:
        return f"{figures(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def change(before: float | None, after: float | None) -> str:
    """How many times less, or more, ``after`` is.

    >>> change(9.0, 3.0), change(2.0, 3.0), change(None, 3.0)
    ('3.00× less', '1.50× more', 'not known')
    """
    if before is None or after is None or before <= 0 or after <= 0:
        return UNKNOWN if before != after else "unchanged"
    ratio = before / after
    if 0.995 < ratio < 1.005:
        return "unchanged"
    return f"{figures(ratio)}× less" if ratio > 1 else f"{figures(1 / ratio)}× more"


def cost_change(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> str:
    """As :func:`change`, of two measurements that may differ in nothing but their runtime.

    The dense network is quoted on whichever runtime runs it fastest, so that the gain is not that
    of a better runtime.

    >>> fast = {"value": 1.0, "unit": "ms", "method": "measured", "num_threads": 4}
    >>> cost_change({**fast, "value": 3.0}, fast), cost_change({**fast, "num_threads": 1}, fast)
    ('3.00× less', 'not comparable')
    """
    if before is None or after is None:
        return UNKNOWN
    ours, theirs = Measurement.from_dict(before), Measurement.from_dict(after)
    try:
        ours.require_comparable(theirs, across=["runtime"])
    except ValueError:
        return "not comparable"
    return change(ours.value, theirs.value)


def percent(ratio: float | None) -> str:
    """A fraction as a percentage with one decimal."""
    return UNKNOWN if ratio is None else f"{100 * ratio:.1f} %"


def metric_value(name: str, value: float | None) -> str:
    """A metric; accuracies and other shares in [0, 1] as a percentage.

    >>> metric_value("val_acc", 0.9123), metric_value("val_loss", 0.3)
    ('91.23 %', '0.300')
    """
    if value is None:
        return UNKNOWN
    return f"{100 * value:.2f} %" if is_share(name, value) else figures(value)


def metric_text(name: str, value: float | None) -> str:
    """A metric and its origin, for plain text."""
    return UNKNOWN if value is None else f"{metric_value(name, value)} measured"


def metric_change(name: str, before: float | None, after: float | None) -> str:
    """The difference of a metric, in points where it is a share."""
    if before is None or after is None:
        return UNKNOWN
    if is_share(name, before):
        return f"{100 * (after - before):+.2f} points".replace("-", "−")
    return f"{after - before:+.3g}".replace("-", "−")


def is_share(name: str, value: float) -> bool:
    """Whether a metric is a part of one, by its name and its value."""
    words = ("acc", "f1", "precision", "recall", "auroc", "agreement")
    return 0 <= value <= 1 and any(word in name.lower() for word in words)


def is_better_when_lower(metric: str) -> bool:
    """Whether a metric is one to keep small, by its name."""
    return any(word in metric.lower() for word in ("loss", "error", "perplexity", "mse", "mae"))


def origin(measurement: Mapping[str, Any]) -> str:
    """How a number was had, in the words that stand beside it.

    >>> origin({"method": "measured", "runtime": "openvino"}), origin({"method": "exact"})
    ('measured on openvino', 'exact')
    """
    runtime = measurement.get("runtime")
    return f"{measurement['method']} on {runtime}" if runtime else str(measurement["method"])


def marked_text(measurement: Mapping[str, Any] | None) -> str:
    """A value with its unit and its origin, for plain text."""
    if measurement is None or measurement["value"] is None:
        return UNKNOWN
    return f"{quantity(measurement['value'], measurement['unit'])} {origin(measurement)}"


def conditions(measurement: Mapping[str, Any], bits: Iterable[float] = ()) -> str:
    """Where a measurement came from: runtime, threads, batch, precision, device, spread, certainty.

    Args:
        measurement: As a report holds it.
        bits: Of the weights of each layer that the network has in integers.

    >>> latency = {"runtime": "openvino", "num_threads": 1, "batch_size": 1, "dtype": "float32"}
    >>> conditions(latency)
    'openvino, 1 thread, batch 1, float32'
    >>> conditions(latency, bits=[8, 4, 8])
    'openvino, 1 thread, batch 1, weights of 4 to 8 bits, floats in float32'
    """
    threads, unit = measurement.get("num_threads"), measurement.get("unit", "")
    batch, spread = measurement.get("batch_size"), measurement.get("spread")
    parts = [
        measurement.get("runtime"),
        threads and f"{threads} thread{'s' if threads > 1 else ''}",
        batch and f"batch {batch}",
        _precision(measurement.get("dtype"), bits),
        measurement.get("device"),
        None if spread is None else f"interquartile range {quantity(spread, unit)}",
        *_certainty(measurement, unit),
    ]
    left_out = measurement.get("unsupported") or []
    parts += [f"without {', '.join(left_out)}"] if left_out else []
    return ", ".join(str(part) for part in parts if part)


def _precision(dtype: str | None, bits: Iterable[float]) -> str | None:
    """What a runtime computes in; ``dtype`` is that of its floating-point arithmetic alone."""
    ordered = sorted(bits)
    if dtype is None or not ordered:
        return dtype
    ends = dict.fromkeys(f"{each:.3g}" for each in (ordered[0], ordered[-1]))
    return f"weights of {' to '.join(ends)} bits, floats in {dtype}"


def _certainty(measurement: Mapping[str, Any], unit: str) -> list[str]:
    """How well a median is known, where it was measured."""
    interval, p95 = measurement.get("interval"), measurement.get("p95")
    num_samples, stopped_by = measurement.get("num_samples"), measurement.get("stopped_by")
    parts = []
    if interval is not None:
        low, high = (figures(value) for value in interval)
        parts.append(f"95 % interval {low} to {high} {unit}")
    if p95 is not None:
        parts.append(f"95th percentile {quantity(p95, unit)}")
    if num_samples is not None:
        parts.append(f"{num_samples:,} calls, ended by {stopped_by}")
    return parts


def _prefixed(value: float, unit: str) -> str:
    scale = 0
    while abs(value) >= 999.5 and scale < len(_PREFIXES) - 1:
        value, scale = value / 1000, scale + 1
    number = f"{value:g}" if scale == 0 else figures(value)
    return f"{number} {_PREFIXES[scale]}{unit}".replace("  ", " ")
