"""What a run may use."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from lightning_cost.budget.units import parse_quantity
from lightning_cost.monitor.spend import Spend

_NEEDS = {"energy_kwh": "power_w", "co2_kg": "power_w", "usd": "price_usd_per_hour"}


@dataclass(kw_only=True, slots=True)
class TrainingBudget:
    """Upper limits on what a run uses, restarts included; what is left out is not limited.

    Args:
        wall_clock_s: Time, as in ``"2h"``.
        flops: FLOPs of training, validation and search together.
        energy_kwh: Energy of the training machine.
        usd: Rent of the training machine.
        co2_kg: Emissions of the energy.

    Raises:
        TypeError: If a limit is neither a number nor a text.
        ValueError: If a limit is not positive, in an unknown unit or a percentage.

    >>> TrainingBudget(wall_clock_s="2h").limits()
    {'wall_clock_s': 7200.0}
    """

    wall_clock_s: float | int | str | None = None
    flops: float | int | str | None = None
    energy_kwh: float | int | str | None = None
    usd: float | int | str | None = None
    co2_kg: float | int | str | None = None

    def __post_init__(self) -> None:
        self.limits()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is limited."""
        return not self.limits()

    def limits(self) -> dict[str, float]:
        """Each limit in the unit of its name."""
        limits = {}
        for field in fields(self):
            written = getattr(self, field.name)
            if written is None:
                continue
            quantity = parse_quantity(written, field.name)
            if quantity.is_ratio:
                raise ValueError(
                    f"{field.name} must be absolute in a training budget, got {written!r}; "
                    "percentages are for the model budget"
                )
            limits[field.name] = quantity.value
        return limits

    def used(self, spend: Spend) -> dict[str, float]:
        """What ``spend`` has of everything that is limited.

        Raises:
            ValueError: If a limited spend is unknown; names what the hardware must describe.
        """
        amounts = {}
        for name in self.limits():
            used: float | None = getattr(spend, name)
            if used is None:
                raise ValueError(
                    f"{_NEEDS[name]} of the training machine must be known where {name} is "
                    f"limited, got None; pass train_hardware=Hardware.local({_NEEDS[name]}=...)"
                )
            amounts[name] = used
        return amounts

    def headroom(self, spend: Spend) -> dict[str, float]:
        """For each limit 1 − spend / limit; zero or negative where it is spent.

        Raises:
            ValueError: If a limited spend is unknown; names what the hardware must describe.
        """
        limits = self.limits()
        return {name: 1 - used / limits[name] for name, used in self.used(spend).items()}

    def is_spent(self, spend: Spend) -> bool:
        """Whether ``spend`` has reached a limit."""
        return any(headroom <= 0 for headroom in self.headroom(spend).values())

    def exceeded_by(self, spend: Spend, more: Mapping[str, float]) -> str | None:
        """The limit that is reached, or would be broken by ``more`` on top; ``None`` if none is.

        >>> now = Spend(train_flops=80, search_flops=0, wall_clock_s=1)
        >>> TrainingBudget(flops=100).exceeded_by(now, {"flops": 30})
        'flops'
        """
        limits = self.limits()
        for name, used in self.used(spend).items():
            if used >= limits[name] or used + more.get(name, 0.0) > limits[name]:
                return name
        return None
