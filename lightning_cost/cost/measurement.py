"""One number with its provenance, and the cost of a network: one such number per resource."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import Enum
from typing import Any, TypeAlias

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
        device: The device's name; ``None`` for what depends on the network alone.
        runtime: What ran the network (``"openvino"``, ...), where something did.
        num_threads: Threads that the runtime was given.
        batch_size: Samples in one forward pass; the value is for the whole pass.
        dtype: The runtime's floating-point precision, such as ``"float32"``.
        unsupported: Operators or parts that the value leaves out, by name.
    """

    value: float
    unit: str
    method: Method
    spread: float | None = None
    device: str | None = None
    runtime: str | None = None
    num_threads: int | None = None
    batch_size: int | None = None
    dtype: str | None = None
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
        return kept | {"method": self.method.value, "unsupported": list(self.unsupported)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Measurement":
        """The inverse of :meth:`to_dict`."""
        known = {field.name for field in fields(cls)}
        values = {key: value for key, value in data.items() if key in known}
        values["method"] = Method(values["method"])
        values["unsupported"] = tuple(values.get("unsupported", ()))
        return cls(**values)


Cost: TypeAlias = dict[Resource, Measurement]
"""What a network costs: one measurement per resource."""


def cost_to_dict(cost: Cost) -> dict[str, dict[str, Any]]:
    """A cost as plain data, keyed by resource name."""
    return {resource.value: measurement.to_dict() for resource, measurement in cost.items()}


def cost_from_dict(data: Mapping[str, Mapping[str, Any]]) -> Cost:
    """The inverse of :func:`cost_to_dict`."""
    return {Resource(name): Measurement.from_dict(value) for name, value in data.items()}
