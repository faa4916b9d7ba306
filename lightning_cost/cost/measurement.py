"""One number with its provenance, and the cost of a network: one such number per resource."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, fields
from enum import Enum
from typing import Any, TypeAlias

from lightning_cost.cost.plain_data import count, entries, items, number, text, texts
from lightning_cost.cost.resource import Resource


class Method(str, Enum):
    """How a number was obtained."""

    exact = "exact"
    measured = "measured"
    estimated = "estimated"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """One value of one resource, and where it came from.

    Args:
        value: In ``unit``.
        unit: The resource's unit, such as ``"ms"``.
        method: Counted exactly, measured on a device, or estimated from a model.
        spread: Interquartile range of a measured value, in ``unit``.
        interval: Where the measured value lies at 95 % confidence, (low, high) in ``unit``.
        p95: What 95 % of the measured samples kept within, in ``unit``.
        num_samples: Samples that a measured value is the median of.
        stopped_by: What ended the measuring: ``"precision"``, ``"time"`` or ``"samples"``.
        device: The device's name; ``None`` for what depends on the network alone.
        runtime: What ran the network (``"openvino"``, ...), where something did.
        num_threads: Threads that the runtime was given.
        batch_size: Samples in one forward pass; the value is for the whole pass.
        dtype: The runtime's floating-point precision, such as ``"float32"``; integer layers of a
            quantised network do not compute in it.
        model: What an estimate was made with, such as ``"roofline"``.
        unsupported: Operators or parts that the value leaves out, by name.
    """

    value: float
    unit: str
    method: Method
    spread: float | None = None
    interval: tuple[float, float] | None = None
    p95: float | None = None
    num_samples: int | None = None
    stopped_by: str | None = None
    device: str | None = None
    runtime: str | None = None
    num_threads: int | None = None
    batch_size: int | None = None
    dtype: str | None = None
    model: str | None = None
    unsupported: tuple[str, ...] = ()

    @classmethod
    def exact(
        cls, resource: Resource, value: float, unsupported: tuple[str, ...] = ()
    ) -> "Measurement":
        """A value counted from the network alone, for one sample."""
        return cls(
            value=value,
            unit=resource.unit,
            method=Method.exact,
            batch_size=1,
            unsupported=unsupported,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, without the fields that do not apply."""
        kept = {key: value for key, value in asdict(self).items() if value is not None}
        if self.interval is not None:
            kept["interval"] = list(self.interval)
        return kept | {"method": self.method.value, "unsupported": list(self.unsupported)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Measurement":
        """The inverse of :meth:`to_dict`.

        Raises:
            ValueError: If an entry is of another type than was written.
        """
        known = {field.name for field in fields(cls)}
        values = {key: value for key, value in entries(data, "cost").items() if key in known}
        for names, check in _CHECKS:
            for name in names:
                if values.get(name) is not None:
                    check(values[name], name)
        values["value"] = number(data["value"], "value")
        values["method"] = Method(values["method"])
        values["unsupported"] = tuple(texts(values.get("unsupported", ()), "unsupported"))
        if values.get("interval") is not None:
            low, high = items(values["interval"], "interval")
            values["interval"] = (number(low, "interval"), number(high, "interval"))
        return cls(**values)

    def ratio_to(self, other: "Measurement", *, across: Collection[str] = ()) -> float:
        """How many times ``other`` this is, had under the same conditions.

        Args:
            other: A value of the same resource.
            across: Conditions that are known to differ, and meant to: among :data:`CONDITIONS`.

        Raises:
            ValueError: If the two cannot be compared, or ``other`` is zero.

        >>> fast = Measurement(value=2, unit="ms", method=Method.measured, runtime="openvino")
        >>> slow = Measurement(value=8, unit="ms", method=Method.measured, runtime="eager")
        >>> slow.ratio_to(fast, across=["runtime"])
        4.0
        """
        self.require_comparable(other, across=across)
        if other.value == 0:
            raise ValueError(
                f"other must be > 0 for a ratio, got {other.value} {other.unit}; leave it out"
            )
        return self.value / other.value

    def require_comparable(self, other: "Measurement", *, across: Collection[str] = ()) -> None:
        """Raise unless ``other`` is in the same unit and was had under the same conditions.

        Args:
            other: A value of the same resource.
            across: Conditions that are known to differ, and meant to: among :data:`CONDITIONS`.

        Raises:
            ValueError: If the units differ, a condition differs that ``across`` does not name,
                or ``across`` names something else.
        """
        for name in across:
            if name not in CONDITIONS:
                raise ValueError(
                    f"across must name conditions ({', '.join(CONDITIONS)}), got {name!r}; "
                    "check its spelling"
                )
        for name in ("unit", *CONDITIONS):
            ours, theirs = getattr(self, name), getattr(other, name)
            if ours == theirs or name in across:
                continue
            remedy = (
                "compare values of one resource"
                if name == "unit"
                else f"measure both alike, or name it: across=[{name!r}]"
            )
            raise ValueError(
                f"{name} must be the same for two values to be compared, got "
                f"{_text(ours)} and {_text(theirs)}; {remedy}"
            )


_CHECKS: tuple[tuple[tuple[str, ...], Callable[[Any, str], Any]], ...] = (
    (("spread", "p95"), number),
    (("num_samples", "num_threads", "batch_size"), count),
    (("unit", "stopped_by", "device", "runtime", "dtype", "model"), text),
)
CONDITIONS = ("method", "model", "device", "runtime", "num_threads", "batch_size", "dtype")
"""What must be the same for two measurements to be compared."""


def _text(condition: object) -> str:
    return repr(str(condition) if isinstance(condition, str) else condition)


Cost: TypeAlias = dict[Resource, Measurement]
"""What a network costs: one measurement per resource."""


def cost_to_dict(cost: Cost) -> dict[str, dict[str, Any]]:
    """A cost as plain data, keyed by resource name."""
    return {resource.value: measurement.to_dict() for resource, measurement in cost.items()}


def cost_from_dict(data: Mapping[str, Mapping[str, Any]]) -> Cost:
    """The inverse of :func:`cost_to_dict`.

    Raises:
        ValueError: If an entry is of another type than was written.
    """
    cost = {
        Resource(name): Measurement.from_dict(value)
        for name, value in entries(data, "cost").items()
    }
    for resource, measurement in cost.items():
        if measurement.unit != resource.unit:
            raise ValueError(f"{resource} must be in {resource.unit}, got {measurement.unit!r:.60}")
    return cost
