"""What a run has used so far: computation, time, energy, money, emissions."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

GRID_CO2_KG_PER_KWH = 0.445
"""World average of 2024: IEA, Electricity 2025 (February 2025), chapter Emissions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spend:
    """What a run has used, its earlier parts before a resume included.

    Args:
        train_flops: FLOPs of the training steps, forward and backward.
        search_flops: FLOPs beside the training steps, such as a search for a ranking.
        wall_clock_s: Time inside ``fit``.
        energy_kwh: Estimated from the training machine's power, or ``None`` if that is unknown.
        co2_kg: Estimated from the energy and the grid's intensity.
        usd: Rent of the training machine, or ``None`` if its price is unknown.
    """

    train_flops: float
    search_flops: float
    wall_clock_s: float
    energy_kwh: float | None = None
    co2_kg: float | None = None
    usd: float | None = None

    @property
    def flops(self) -> float:
        """FLOPs of training and search together."""
        return self.train_flops + self.search_flops

    def to_dict(self) -> dict[str, float]:
        """The known values by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def log_metrics(self) -> dict[str, float]:
        """The known values by log key."""
        return {f"spend/{name}": value for name, value in self.to_dict().items()}


class SpendMeter:
    """Adds up what a run uses; monotonic, and goes on after a resume.

    Args:
        co2_kg_per_kwh: Intensity of the grid.
        clock: Seconds that never go back.

    Attributes:
        flops_per_sample: FLOPs of a training step for one sample, as the network is now.
        search_flops: FLOPs beside the training steps so far.
        power_w: Power of a training machine while it trains; ``None`` if unknown.
        price_usd_per_hour: Rent of a training machine; ``None`` if unknown.
        num_machines: How many such machines train.

    >>> now = iter([0.0, 7200.0])
    >>> meter = SpendMeter(clock=lambda: next(now))
    >>> meter.price_usd_per_hour, meter.flops_per_sample = 1.5, 10
    >>> meter.start(); meter.add_samples(32); meter.stop()
    >>> meter.spend.usd, meter.spend.train_flops
    (3.0, 320)
    """

    def __init__(
        self,
        *,
        co2_kg_per_kwh: float = GRID_CO2_KG_PER_KWH,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.flops_per_sample: float = 0
        self.search_flops: float = 0
        self.power_w: float | None = None
        self.price_usd_per_hour: float | None = None
        self.num_machines = 1
        self._co2_kg_per_kwh = co2_kg_per_kwh
        self._clock = clock
        self._train_flops: float = 0
        self._seconds = 0.0
        self._started_at: float | None = None

    def start(self) -> None:
        """Let time run; a second call in a row does nothing."""
        if self._started_at is None:
            self._started_at = self._clock()

    def stop(self) -> None:
        """Stop time; a second call in a row does nothing."""
        self._seconds = self.seconds
        self._started_at = None

    def add_samples(self, num_samples: int) -> None:
        """Account for training steps on ``num_samples`` samples at today's FLOPs per sample."""
        self._train_flops += num_samples * self.flops_per_sample

    @property
    def seconds(self) -> float:
        """Time so far, in this run and in those it was resumed from."""
        if self._started_at is None:
            return self._seconds
        return self._seconds + self._clock() - self._started_at

    @property
    def spend(self) -> Spend:
        """Everything so far."""
        seconds = self.seconds
        rent = self.price_usd_per_hour
        machine_hours = self.num_machines * seconds / 3600
        energy_kwh = None if self.power_w is None else self.power_w * machine_hours / 1e3
        return Spend(
            train_flops=self._train_flops,
            search_flops=self.search_flops,
            wall_clock_s=seconds,
            energy_kwh=energy_kwh,
            co2_kg=None if energy_kwh is None else energy_kwh * self._co2_kg_per_kwh,
            usd=None if rent is None else rent * machine_hours,
        )

    @property
    def assumptions(self) -> dict[str, float | None]:
        """The figures that energy, emissions and money were estimated with."""
        return {
            "power_w": self.power_w,
            "price_usd_per_hour": self.price_usd_per_hour,
            "co2_kg_per_kwh": self._co2_kg_per_kwh,
        }

    def state_dict(self) -> dict[str, Any]:
        """What is used so far, as plain data."""
        return {
            "train_flops": self._train_flops,
            "search_flops": self.search_flops,
            "flops_per_sample": self.flops_per_sample,
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what an earlier part of the run had used."""
        self._train_flops = state["train_flops"]
        self.search_flops = state["search_flops"]
        self.flops_per_sample = state["flops_per_sample"]
        self._seconds = state["seconds"]
        if self._started_at is not None:
            self._started_at = self._clock()
