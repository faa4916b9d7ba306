"""A device that networks are priced on: this machine, or one that is only described."""

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from torch import nn

from lightning_cost.cost.forward import Example, with_batch_size
from lightning_cost.cost.measurement import Cost, Measurement, Method
from lightning_cost.cost.memory import peak_memory_bytes
from lightning_cost.cost.resource import Resource
from lightning_cost.cost.size import size_bytes
from lightning_cost.hardware.catalogue import described, known_hardware, read_description
from lightning_cost.hardware.fingerprint import machine_fingerprint
from lightning_cost.hardware.local import measure_fastest
from lightning_cost.hardware.roofline import Roofline, layer_work

AUTO = "auto"
_POSITIVE = (
    "num_threads",
    "batch_size",
    "peak_gmacs_fp32",
    "peak_gmacs_int8",
    "bandwidth_gb_s",
    "memory_bytes",
    "power_w",
    "price_usd_per_hour",
)
_PRECISIONS = ("float32", "bfloat16")


@dataclass(kw_only=True, slots=True)
class Hardware:
    """A target device.

    Args:
        name: What it is called in logs and reports.
        is_local: Whether it is this machine, on which latency is measured; else it is estimated.
        runtime: What runs the network here, ``"auto"`` for the fastest one installed.
        num_threads: Threads that the runtime gets.
        batch_size: Samples in one forward pass.
        precision: ``"float32"`` or ``"bfloat16"``, what the runtime computes in.
        peak_gmacs_fp32: 10⁹ multiply-accumulates per second in float32.
        peak_gmacs_int8: The same in int8.
        bandwidth_gb_s: Memory bandwidth in 10⁹ bytes per second.
        memory_bytes: Memory for weights and activations.
        power_w: Power under load.
        price_usd_per_hour: Rent.
        source: Where the figures come from.
        date: When the source was published or read.

    Raises:
        ValueError: If a figure is not positive, or if a device that is not local lacks what its
            latency is estimated from.
    """

    name: str = "local"
    is_local: bool = True
    runtime: str | None = AUTO
    num_threads: int = 1
    batch_size: int = 1
    precision: str = "float32"
    peak_gmacs_fp32: float | None = None
    peak_gmacs_int8: float | None = None
    bandwidth_gb_s: float | None = None
    memory_bytes: float | None = None
    power_w: float | None = None
    price_usd_per_hour: float | None = None
    source: str | None = None
    date: str | None = None

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(
                    f"{name} of hardware {self.name!r} must be > 0, got {value!r}; "
                    "leave it out where it is unknown"
                )
        if self.precision not in _PRECISIONS:
            raise ValueError(
                f"precision must be one of {', '.join(_PRECISIONS)}, got {self.precision!r}; "
                "int8 follows from the quantised network itself"
            )
        if not self.is_local:
            self._require_description()

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
        needed = {Resource.energy_mj: "power_w", Resource.usd_per_million: "price_usd_per_hour"}
        name = needed.get(resource)
        if name is None or getattr(self, name) is not None:
            return None
        return (
            f"{name} of hardware {self.name!r} must be known to price {resource}, got None; "
            f"pass {name}=... or add it to the hardware's description"
        )

    def price(self, network: nn.Module, example: Example) -> Cost:
        """What a deployed network costs here: latency, and energy and money where they are known.

        A local latency is measured. Everything else is estimated: latency by roofline, energy as
        power × latency, money as the rent of a fully used device. ``network`` is left as found.
        """
        example = with_batch_size(example, self.batch_size)
        latency = (
            self._measured(network, example) if self.is_local else self._estimated(network, example)
        )
        cost: Cost = {Resource.latency_ms: latency}
        if self.power_w is not None:
            cost[Resource.energy_mj] = self._derived(
                Resource.energy_mj, latency, factor=self.power_w
            )
        if self.price_usd_per_hour is not None:
            factor = self.price_usd_per_hour / 3.6e6 / self.batch_size * 1e6
            cost[Resource.usd_per_million] = self._derived(
                Resource.usd_per_million, latency, factor=factor
            )
        return cost

    def fingerprint(self) -> dict[str, Any]:
        """What identifies the device: this machine's, or the description's source and date."""
        if self.is_local:
            return {"name": self.name, **machine_fingerprint()}
        return {"name": self.name, "source": self.source, "date": self.date}

    def _require_description(self) -> None:
        for name in ("peak_gmacs_fp32", "bandwidth_gb_s", "source", "date"):
            if getattr(self, name) is None:
                raise ValueError(
                    f"{name} must be given for hardware that is not local, got None for "
                    f"{self.name!r}; take it from the data sheet, or set is_local: true. "
                    f"Described devices: {', '.join(known_hardware())}"
                )

    def _measured(self, network: nn.Module, example: Example) -> Measurement:
        return measure_fastest(
            network,
            example,
            runtime=None if self.runtime == AUTO else self.runtime,
            num_threads=self.num_threads,
            precision=self.precision,
        )

    def _estimated(self, network: nn.Module, example: Example) -> Measurement:
        assert self.peak_gmacs_fp32 is not None
        assert self.bandwidth_gb_s is not None
        roofline = Roofline(
            peak_gmacs_fp32=self.peak_gmacs_fp32,
            peak_gmacs_int8=self.peak_gmacs_int8,
            bandwidth_gb_s=self.bandwidth_gb_s,
        )
        work, unsupported = layer_work(network, example)
        return Measurement(
            value=roofline.latency_ms(work),
            unit=Resource.latency_ms.unit,
            method=Method.estimated,
            device=self.name,
            batch_size=self.batch_size,
            dtype=self.precision,
            unsupported=(*unsupported, *self._lack_of_memory(network, example)),
        )

    def _lack_of_memory(self, network: nn.Module, example: Example) -> tuple[str, ...]:
        """A remark where the network does not fit, which the estimate leaves out."""
        needed = size_bytes(network) + self.batch_size * peak_memory_bytes(network, example)
        if self.memory_bytes is None or needed <= self.memory_bytes:
            return ()
        return (f"lack of memory: {needed:.0f} of {self.memory_bytes:.0f} bytes needed",)

    def _derived(self, resource: Resource, latency: Measurement, *, factor: float) -> Measurement:
        return Measurement(
            value=latency.value * factor,
            unit=resource.unit,
            method=Method.estimated,
            device=latency.device,
            runtime=latency.runtime,
            num_threads=latency.num_threads,
            batch_size=latency.batch_size,
            dtype=latency.dtype,
            unsupported=latency.unsupported,
        )
