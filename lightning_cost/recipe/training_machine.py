"""The machine that a run is planned on, and what a number of FLOPs would use there."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from lightning_cost.hardware.device import Hardware
from lightning_cost.hardware.peak import measured_peak_gmacs
from lightning_cost.hardware.prices import Prices, check_utilisation
from lightning_cost.report.quantities import quantity

LOCAL = "local"
DEFAULT_UTILISATION = 0.3
"""Near the middle of what large runs reached: GPT-3 21.3 %, Megatron-Turing NLG 30.2 %, Gopher
32.5 %, PaLM 46.2 % (Chowdhery et al., PaLM, 2022, table 3)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """One planned amount.

    Args:
        value: In ``unit``; ``None`` where it cannot be known.
        unit: Such as ``"kWh"``.
        assumptions: What it rests on, or what is missing.
    """

    value: float | None
    unit: str
    assumptions: str

    def to_dict(self) -> dict[str, float | str | None]:
        """Plain data, as in a report's ``spend``."""
        return {
            "value": self.value,
            "unit": self.unit,
            "method": "estimated",
            "assumptions": self.assumptions,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingMachine:
    """Devices that train together.

    Args:
        name: Of the device.
        num_devices: How many.
        peak_flops: FLOPs per second of one device, in the precision of training.
        peak_source: Which peak that is, and where it comes from.
        utilisation: Share of the peak that training reaches, in (0, 1].
        power_w: Of one device under load; ``None`` if unknown.
        usd_per_hour: Rent of one device; ``None`` if unknown.
        is_owned: Whether electricity is paid for where there is no rent.
        pue: What its place draws for each watt of it.
        prices: Of electricity and emissions.
        region: Where the electricity comes from.

    Raises:
        ValueError: If ``utilisation`` is not in (0, 1], or there is no device.
    """

    name: str
    num_devices: int
    peak_flops: float
    peak_source: str
    utilisation: float
    power_w: float | None
    usd_per_hour: float | None
    is_owned: bool
    pue: float
    prices: Prices
    region: str

    def __post_init__(self) -> None:
        check_utilisation(self.utilisation)
        if self.num_devices < 1:
            raise ValueError(
                f"num_devices must be >= 1, got {self.num_devices}; "
                "give the number of devices that train together"
            )

    @classmethod
    def of(
        cls,
        hardware: Hardware,
        *,
        num_devices: int = 1,
        utilisation: float = DEFAULT_UTILISATION,
        has_16_bits: bool = False,
        num_threads: int | None = None,
    ) -> "TrainingMachine":
        """Devices of one sort; this machine's peak is measured where it is not given.

        Args:
            hardware: One device.
            num_devices: How many.
            utilisation: Share of the peak that training reaches.
            has_16_bits: Whether training computes in 16-bit floats where the device is faster so.
            num_threads: That PyTorch trains with on this machine; ``None`` for its own choice.

        Raises:
            ValueError: If a number is out of range, or the peak is not described.
        """
        check_utilisation(utilisation)
        gmacs, source = _peak(hardware, has_16_bits=has_16_bits, num_threads=num_threads)
        return cls(
            name=hardware.name,
            num_devices=num_devices,
            peak_flops=2e9 * gmacs,
            peak_source=source,
            utilisation=utilisation,
            power_w=hardware.power_w,
            usd_per_hour=hardware.rent_usd_per_hour,
            is_owned=hardware.is_owned,
            pue=hardware.pue,
            prices=Prices.load(hardware.prices),
            region=hardware.region,
        )

    def seconds(self, flops: float) -> float:
        """How long ``flops`` take."""
        return flops / (self.peak_flops * self.utilisation * self.num_devices)

    def spend(self, flops: float) -> dict[str, Estimate]:
        """Time, energy, emissions and money for ``flops``; a limit's names in TrainingBudget."""
        seconds = self.seconds(flops)
        hours = seconds / 3600 * self.num_devices
        time = Estimate(
            value=seconds,
            unit="s",
            assumptions=(
                f"{self.num_devices} × {self.name} at {self.utilisation:.0%} of "
                f"{quantity(self.peak_flops, 'FLOP')} a second ({self.peak_source})"
            ),
        )
        energy_kwh = None if self.power_w is None else self.power_w * hours / 1e3
        without = f"power_w of {self.name} is not known: describe it"
        energy = Estimate(
            value=energy_kwh,
            unit="kWh",
            assumptions=without
            if self.power_w is None
            else f"{self.power_w:g} W a device, all the time",
        )
        grid = self.prices.co2_kg_per_kwh(self.region)
        co2 = Estimate(
            value=None if energy_kwh is None else energy_kwh * self.pue * grid.value,
            unit="kg",
            assumptions=without if energy_kwh is None else f"PUE {self.pue:g}, {grid}",
        )
        return {
            "wall_clock_s": time,
            "energy_kwh": energy,
            "co2_kg": co2,
            "usd": self._money(hours, energy_kwh),
        }

    def _money(self, device_hours: float, energy_kwh: float | None) -> Estimate:
        if self.usd_per_hour is not None:
            return Estimate(
                value=self.usd_per_hour * device_hours,
                unit="USD",
                assumptions=f"rent, ${self.usd_per_hour:g} a device and hour",
            )
        if self.is_owned and energy_kwh is not None:
            price = self.prices.usd_per_kwh(self.region)
            return Estimate(
                value=energy_kwh * self.pue * price.value,
                unit="USD",
                assumptions=f"electricity alone, PUE {self.pue:g}, {price}",
            )
        return Estimate(
            value=None,
            unit="USD",
            assumptions=f"price_usd_per_hour of {self.name} is not known: give it, or is_owned",
        )


def training_hardware(name: str) -> Hardware:
    """A device by its name in the catalogue or the path of its description; "local" for this one.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If there is none of that name, or its description is wrong.
    """
    if name == LOCAL:
        return Hardware.local()
    if Path(name).suffix in (".yaml", ".yml"):
        return Hardware.from_yaml(name)
    return Hardware.load(name)


def _peak(hardware: Hardware, *, has_16_bits: bool, num_threads: int | None) -> tuple[float, str]:
    """10⁹ multiply-accumulates a second for training, and which figure it is."""
    if has_16_bits and hardware.peak_gmacs_fp16 is not None:
        return hardware.peak_gmacs_fp16, f"16-bit floats, {_origin(hardware, 'peak_gmacs_fp16')}"
    if hardware.peak_gmacs_fp32 is not None:
        return hardware.peak_gmacs_fp32, f"float32, {_origin(hardware, 'peak_gmacs_fp32')}"
    if not hardware.is_local:
        hardware.roofline()  # says what is missing
    kind = "bfloat16" if has_16_bits else "float32"
    gmacs = _measured_once(16 if has_16_bits else 32, num_threads)
    threads = "" if num_threads is None else f" with {num_threads} thread(s)"
    return gmacs, f"{kind}, measured here on a matrix product{threads}"


@lru_cache
def _measured_once(bits: int, num_threads: int | None) -> float:
    """This machine's peak, the same for all plans of a sweep."""
    return measured_peak_gmacs(bits=bits, num_threads=num_threads)


def _origin(hardware: Hardware, figure: str) -> str:
    return hardware.provenance.get(figure, "as described").replace("_", " ")
