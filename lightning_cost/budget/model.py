"""What the deployed network may cost."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

from lightning_cost.budget.units import Quantity, parse_quantity
from lightning_cost.cost.measurement import Cost, Measurement
from lightning_cost.cost.resource import Resource
from lightning_cost.hardware.device import Hardware


@dataclass(kw_only=True, slots=True)
class ModelBudget:
    """Upper limits on the cost of the deployed network; what is left out is not limited.

    A limit is a number in the unit of its name (``latency_ms=2``), a text with a unit
    (``size_bytes="300 kB"``) or a percentage of the dense network's cost (``macs="50%"``).

    Args:
        macs: Multiply-accumulates of one sample.
        flops: Twice the MACs.
        params: Parameters.
        size_bytes: Stored weights.
        peak_memory_bytes: Activations alive at once.
        latency_ms: Median time of one forward pass on the hardware.
        energy_mj: Energy of one forward pass on the hardware.
        usd_per_million: Price of a million inferences on the hardware.

    Raises:
        TypeError: If a limit is neither a number nor a text.
        ValueError: If a limit is not positive, or in an unknown unit.

    >>> ModelBudget(macs="50%", latency_ms="2 ms").resources
    [<Resource.macs: 'macs'>, <Resource.latency_ms: 'latency_ms'>]
    """

    macs: float | int | str | None = None
    flops: float | int | str | None = None
    params: float | int | str | None = None
    size_bytes: float | int | str | None = None
    peak_memory_bytes: float | int | str | None = None
    latency_ms: float | int | str | None = None
    energy_mj: float | int | str | None = None
    usd_per_million: float | int | str | None = None

    def __post_init__(self) -> None:
        self._quantities()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "ModelBudget":
        """A budget from resource names and limits.

        Raises:
            ValueError: If a name is not that of a resource; lists the known ones.
        """
        known = [field.name for field in fields(cls)]
        for name in data:
            if name not in known:
                raise ValueError(
                    f"a model budget must limit a known resource ({', '.join(known)}), "
                    f"got {name!r}; check its spelling"
                )
        return cls(**data)

    @property
    def resources(self) -> list[Resource]:
        """The resources that are limited."""
        return list(self._quantities())

    @property
    def is_empty(self) -> bool:
        """Whether nothing is limited."""
        return not self.resources

    @property
    def is_relative(self) -> bool:
        """Whether a limit is a percentage of the dense network's cost."""
        return any(quantity.is_ratio for quantity in self._quantities().values())

    @property
    def needs_hardware(self) -> bool:
        """Whether a limit can only be checked on a device."""
        return not all(resource.is_counted for resource in self.resources)

    def require_hardware(self, hardware: Hardware | None) -> None:
        """Raise unless ``hardware`` can price whatever this budget limits.

        Raises:
            ValueError: If a limit needs hardware and there is none, or one that is not described
                well enough.
        """
        for resource in self.resources:
            if resource.is_counted:
                continue
            if hardware is None:
                raise ValueError(
                    f"hardware must be given where {resource} is limited, got None; "
                    "pass hardware=Hardware.local() or Hardware.load(NAME)"
                )
            reason = hardware.missing(resource)
            if reason is not None:
                raise ValueError(reason)

    def limits(
        self, dense: Cost, *, only: Collection[Resource] | None = None
    ) -> dict[Resource, float]:
        """Each limit in the unit of its resource.

        Args:
            dense: Cost of the network before compression, which percentages are of.
            only: The resources whose limits are wanted; ``None``: all.

        Raises:
            ValueError: If a percentage is of a cost that ``dense`` does not have.
        """
        limits = {}
        for resource, quantity in self._quantities().items():
            if only is not None and resource not in only:
                continue
            if quantity.is_ratio and resource not in dense:
                raise ValueError(
                    f"{resource} must be an absolute limit where the dense network's {resource} "
                    f"is unknown, got {getattr(self, resource.value)!r}; give it in "
                    f"{resource.unit}, or start from the dense network"
                )
            scale = dense[resource].value if quantity.is_ratio else 1.0
            limits[resource] = quantity.value * scale
        return limits

    def headroom(self, cost: Cost, dense: Cost) -> dict[Resource, float]:
        """For each limit 1 − cost / limit; negative where the limit is broken.

        Raises:
            ValueError: If ``cost`` lacks a resource that is limited, or if a percentage is of a
                dense cost that was had on another device or under other settings.
        """
        headroom = {}
        for resource, limit in self.limits(dense).items():
            if resource not in cost:
                raise ValueError(
                    f"cost must hold {resource}, which is limited, got only "
                    f"{', '.join(map(str, cost)) or 'nothing'}; measure with hardware that "
                    f"prices {resource}"
                )
            if self._quantities()[resource].is_ratio:
                # on the fastest runtime each, where the runtime is chosen so
                _require_comparable(resource, cost[resource], dense[resource])
            headroom[resource] = 1 - cost[resource].value / limit
        return headroom

    def is_kept(self, cost: Cost, dense: Cost) -> bool:
        """Whether ``cost`` is within every limit."""
        return all(headroom >= 0 for headroom in self.headroom(cost, dense).values())

    def _quantities(self) -> dict[Resource, Quantity]:
        written = {resource: getattr(self, resource.value) for resource in Resource}
        return {
            resource: parse_quantity(value, resource.value)
            for resource, value in written.items()
            if value is not None
        }


def _require_comparable(resource: Resource, cost: Measurement, dense: Measurement) -> None:
    try:
        cost.require_comparable(dense, across=["runtime"])
    except ValueError as error:
        raise ValueError(
            f"{resource} must be an absolute limit where the dense network's was had under other "
            f"conditions: {error}"
        ) from error
