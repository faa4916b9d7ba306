"""A device that networks are priced on: this machine, or one that is only described."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from torch import nn

from lightning_cost.cost.forward import Example, with_batch_size
from lightning_cost.cost.measurement import Cost, Measurement
from lightning_cost.cost.resource import Resource
from lightning_cost.hardware.catalogue import described, known_hardware, read_description
from lightning_cost.hardware.description import check_description
from lightning_cost.hardware.estimate import (
    estimated_latency,
    modelled_energy,
    owned_usd,
    powered_energy,
    rented_usd,
)
from lightning_cost.hardware.fingerprint import machine_fingerprint
from lightning_cost.hardware.joules import NoCounters
from lightning_cost.hardware.local import (
    LocalCounters,
    local_counters,
    measure_fastest,
    measure_local_energy,
)
from lightning_cost.hardware.prices import DEFAULT, WORLD, Prices
from lightning_cost.hardware.roofline import Roofline

AUTO = "auto"
_IN_DATA_CENTRES = ("server", "gpu")


@dataclass(kw_only=True, slots=True)
class Hardware:
    """A target device.

    Args:
        name: What it is called in logs and reports.
        is_local: Whether it is this machine, on which latency is measured; else it is estimated.
        kind: One of ``"local"``, ``"server"``, ``"gpu"``, ``"laptop"``, ``"board"``, ``"phone"``,
            ``"microcontroller"``; servers and GPUs stand in data centres, which draw more.
        runtime: What runs the network here, ``"auto"`` for the fastest one installed.
        num_threads: Threads that the runtime gets.
        batch_size: Samples in one forward pass.
        precision: ``"float32"`` or ``"bfloat16"``, what the runtime computes in.
        latency_table: Path of a latency table of this machine, from ``lightning-cost profile``; it
            proposes widths, what is measured decides.
        peak_gmacs_fp32: 10⁹ multiply-accumulates per second in float32.
        peak_gmacs_fp16: The same in 16-bit floats.
        peak_gmacs_int8: The same in int8.
        bandwidth_gb_s: Memory bandwidth in 10⁹ bytes per second.
        memory_bytes: Memory for weights and activations.
        sram_bytes: Memory for activations, where the weights lie in flash.
        flash_bytes: Memory for weights.
        power_w: Power under load.
        price_usd_per_hour: Rent.
        utilisation: Share of the rented time in which there is something to do, in (0, 1].
        is_owned: Whether money is the electricity, where there is no rent.
        region: Where its electricity comes from; a name in the price list.
        prices: ``"default"``, or the path of a price file of your own, whose rent for this device
            goes before ``price_usd_per_hour``.
        energy_model: Name or path of an analytic energy model, such as ``"eyeriss"``; without one
            energy is power × latency.
        is_shift_add: Whether it shifts and adds where weights are powers of two.
        subtract_idle: Whether measured energy is only what goes beyond idle power.
        source: Where the figures come from.
        date: When the source was published or read.
        provenance: For each figure ``"data_sheet"``, ``"derived"``, ``"measured"`` (by us) or
            ``"list_price"``.

    Raises:
        ValueError: If a figure is not positive, or if a device that is not local lacks what its
            latency is estimated from.
    """

    name: str = "local"
    is_local: bool = True
    kind: str = "local"
    runtime: str | None = AUTO
    num_threads: int = 1
    batch_size: int = 1
    precision: str = "float32"
    latency_table: str | None = None
    peak_gmacs_fp32: float | None = None
    peak_gmacs_fp16: float | None = None
    peak_gmacs_int8: float | None = None
    bandwidth_gb_s: float | None = None
    memory_bytes: float | None = None
    sram_bytes: float | None = None
    flash_bytes: float | None = None
    power_w: float | None = None
    price_usd_per_hour: float | None = None
    utilisation: float = 1.0
    is_owned: bool = False
    region: str = WORLD
    prices: str = DEFAULT
    energy_model: str | None = None
    is_shift_add: bool = False
    subtract_idle: bool = False
    source: str | None = None
    date: str | None = None
    provenance: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        types = {each.name: each.type for each in fields(self)}
        check_description({name: getattr(self, name) for name in types}, types)

    @classmethod
    def local(
        cls,
        runtime: str = AUTO,
        num_threads: int = 1,
        *,
        batch_size: int = 1,
        precision: str = "float32",
        power_w: float | None = None,
        price_usd_per_hour: float | None = None,
    ) -> "Hardware":
        """This machine.

        >>> Hardware.local(runtime="eager").missing(Resource.latency_ms) is None
        True
        """
        return cls(
            runtime=runtime,
            num_threads=num_threads,
            batch_size=batch_size,
            precision=precision,
            power_w=power_w,
            price_usd_per_hour=price_usd_per_hour,
        )

    @classmethod
    def load(cls, name: str) -> "Hardware":
        """A device of the catalogue.

        >>> Hardware.load("raspberry_pi_4").is_local
        False

        Raises:
            ValueError: If there is none of that name; lists the known ones.
        """
        return cls(**described(name))

    @classmethod
    def from_yaml(cls, path: str | Path) -> "Hardware":
        """A device described in a file of your own.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it has unknown entries, or lacks what latency is estimated from.
        """
        description = read_description(Path(path))
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(description) - set(known))
        if unknown:
            raise ValueError(
                f"a hardware description must have known entries ({', '.join(known)}), "
                f"got {', '.join(unknown)} in {str(path)!r}; check the spelling"
            )
        values: dict[str, Any] = {"name": Path(path).stem, "is_local": False} | description
        return cls(**values)

    def missing(self, resource: Resource) -> str | None:
        """Why ``resource`` cannot be priced here, and what to add; ``None`` if it can."""
        if resource is Resource.energy_mj:
            return self._missing_energy()
        if resource is not Resource.usd_per_million or self.rent_usd_per_hour is not None:
            return None
        if self.is_owned:
            return self._missing_energy()
        return (
            f"price_usd_per_hour of hardware {self.name!r} must be known to price {resource}, got "
            "None; pass price_usd_per_hour=... or add it to the hardware's description, or set "
            "is_owned=true to pay for the electricity alone"
        )

    @property
    def rent_usd_per_hour(self) -> float | None:
        """The rent of one device: from a price file of one's own, or as described."""
        if self.prices != DEFAULT:
            figure = Prices.load(self.prices).usd_per_device_hour(self.name)
            if figure is not None:
                return figure.value
        return self.price_usd_per_hour

    @property
    def pue(self) -> float:
        """What its place draws for each watt that it draws: 1 outside of data centres."""
        return Prices.load(self.prices).pue.value if self.kind in _IN_DATA_CENTRES else 1.0

    def price(
        self,
        network: nn.Module,
        example: Example,
        *,
        latency: Measurement | None = None,
        has_remarks: bool = True,
    ) -> Cost:
        """What a deployed network costs here: latency, and energy and money where they are known.

        A local latency is measured, and local energy where the machine has counters. The rest is
        estimated: latency by roofline; energy by ``energy_model``, or as power × latency; money as
        rent, or as electricity where the device is owned. Each measurement names its model.
        ``network`` is left as found.

        Args:
            network: As deployed.
            example: What one forward pass takes; brought to this device's batch size.
            latency: Where it is known already; nothing is timed then.
            has_remarks: Whether an estimate names what the device has no room for.
        """
        example = with_batch_size(example, self.batch_size)
        if latency is None:
            latency = (
                self._measured(network, example)
                if self.is_local
                else self._estimated(network, example, has_remarks=has_remarks)
            )
        cost: Cost = {Resource.latency_ms: latency}
        if self._missing_energy() is None:
            cost[Resource.energy_mj] = self._energy(network, example, latency)
        rent = self.rent_usd_per_hour
        if rent is not None:
            cost[Resource.usd_per_million] = rented_usd(
                latency,
                usd_per_hour=rent,
                batch_size=self.batch_size,
                utilisation=self.utilisation,
            )
        elif self.is_owned and Resource.energy_mj in cost:
            cost[Resource.usd_per_million] = owned_usd(
                cost[Resource.energy_mj],
                usd_per_kwh=Prices.load(self.prices).usd_per_kwh(self.region).value,
                pue=self.pue,
                batch_size=self.batch_size,
            )
        return cost

    def fingerprint(self) -> dict[str, Any]:
        """What identifies the device: this machine's, or the description's source and date."""
        if self.is_local:
            return {"name": self.name, **machine_fingerprint()}
        return {"name": self.name, "source": self.source, "date": self.date}

    def roofline(self) -> Roofline:
        """What the described device can do at best.

        Raises:
            ValueError: If its peaks are not described.
        """
        for name in ("peak_gmacs_fp32", "bandwidth_gb_s"):
            if getattr(self, name) is None:
                raise ValueError(
                    f"{name} must be given to estimate latency on hardware {self.name!r}, got "
                    f"None; pass hardware.{name}=... or choose a described device: "
                    f"{', '.join(known_hardware())}"
                )
        assert self.peak_gmacs_fp32 is not None
        assert self.bandwidth_gb_s is not None
        return Roofline(
            peak_gmacs_fp32=self.peak_gmacs_fp32,
            peak_gmacs_fp16=self.peak_gmacs_fp16,
            peak_gmacs_int8=self.peak_gmacs_int8,
            bandwidth_gb_s=self.bandwidth_gb_s,
        )

    def _missing_energy(self) -> str | None:
        if self.power_w is not None or self.energy_model is not None:
            return None
        counters = local_counters() if self.is_local else None
        if counters is not None and not isinstance(counters, NoCounters):
            return None
        here = f"; no energy counter here: {counters.reason}" if counters is not None else ""
        return (
            f"power_w of hardware {self.name!r} must be known to price energy_mj, got None; pass "
            f"power_w=... or energy_model=eyeriss, or add it to the hardware's description{here}"
        )

    def _measured(self, network: nn.Module, example: Example) -> Measurement:
        return measure_fastest(
            network,
            example,
            runtime=None if self.runtime == AUTO else self.runtime,
            num_threads=self.num_threads,
            precision=self.precision,
        )

    def _estimated(self, network: nn.Module, example: Example, *, has_remarks: bool) -> Measurement:
        rooms = {
            "memory": self.memory_bytes,
            "flash": self.flash_bytes,
            "SRAM": self.sram_bytes,
        }
        return estimated_latency(
            network,
            example,
            roofline=self.roofline(),
            device=self.name,
            memory_bytes=rooms if has_remarks else {},
        )

    @property
    def has_modelled_energy(self) -> bool:
        """Whether energy is by ``energy_model``; where counters measure it, it is not."""
        return self.energy_model is not None and self._counters() is None

    def _counters(self) -> LocalCounters | None:
        """The counters that measure energy here, if there are any."""
        counters = local_counters() if self.is_local else None
        return None if isinstance(counters, NoCounters) else counters

    def _energy(self, network: nn.Module, example: Example, latency: Measurement) -> Measurement:
        counters = self._counters()
        if counters is not None:
            return measure_local_energy(
                network, example, latency, counters, subtract_idle=self.subtract_idle
            )
        if self.energy_model is not None:
            return modelled_energy(
                network,
                example,
                latency,
                energy_model=self.energy_model,
                is_shift_add=self.is_shift_add,
            )
        assert self.power_w is not None
        return powered_energy(latency, power_w=self.power_w)
