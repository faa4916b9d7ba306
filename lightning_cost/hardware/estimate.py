"""What a network would cost on a described device: latency, energy and money, each by its model."""

from collections.abc import Mapping
from dataclasses import replace

from torch import nn

from lightning_cost.cost.forward import Example, batch_size_of
from lightning_cost.cost.measurement import Measurement, Method
from lightning_cost.cost.memory import peak_memory_bytes
from lightning_cost.cost.resource import Resource
from lightning_cost.cost.size import loaded_bytes
from lightning_cost.hardware.energy import EnergyModel
from lightning_cost.hardware.layers import layers_of
from lightning_cost.hardware.prices import usd_per_million_owned, usd_per_million_rented
from lightning_cost.hardware.roofline import Roofline

LACK = "lack of"
"""How a remark on missing memory begins."""


def estimated_latency(
    network: nn.Module,
    example: Example,
    *,
    roofline: Roofline,
    device: str,
    memory_bytes: Mapping[str, float | None],
) -> Measurement:
    """Latency by roofline for the batch in ``example``; remarks what the device has no room for.

    Args:
        network: As deployed; left as it was found.
        example: One batch.
        roofline: What the device can do at best.
        device: Its name.
        memory_bytes: Room for weights and activations ("memory"), or for either ("flash", "SRAM").
    """
    layers, unsupported = layers_of(network, example)
    return Measurement(
        value=roofline.latency_ms(layers),
        unit=Resource.latency_ms.unit,
        method=Method.estimated,
        device=device,
        batch_size=batch_size_of(example),
        dtype="float32",
        model="roofline",
        unsupported=(*unsupported, *_lack_of_memory(network, example, memory_bytes)),
    )


def powered_energy(latency: Measurement, *, power_w: float) -> Measurement:
    """Energy as power × latency."""
    return _derived(Resource.energy_mj, latency, latency.value * power_w, model="power_x_latency")


def modelled_energy(
    network: nn.Module,
    example: Example,
    latency: Measurement,
    *,
    energy_model: str,
    is_shift_add: bool,
) -> Measurement:
    """Energy by an analytic model, whatever the latency is.

    Raises:
        ValueError: If there is no such model, or it is wrong.
        FileNotFoundError: If there is no such file.
    """
    model = EnergyModel.load(energy_model, is_shift_add=is_shift_add or None)
    layers, _ = layers_of(network, example)
    return _derived(Resource.energy_mj, latency, model.energy_mj(layers), model=model.name)


def rented_usd(
    latency: Measurement, *, usd_per_hour: float, batch_size: int, utilisation: float
) -> Measurement:
    """Money for a million inferences as rent."""
    value = usd_per_million_rented(
        usd_per_hour=usd_per_hour,
        latency_ms=latency.value,
        batch_size=batch_size,
        utilisation=utilisation,
    )
    return _derived(
        Resource.usd_per_million, latency, value, model=f"rent at utilisation {utilisation:g}"
    )


def owned_usd(
    energy: Measurement, *, usd_per_kwh: float, pue: float, batch_size: int
) -> Measurement:
    """Money for a million inferences as electricity."""
    value = usd_per_million_owned(
        energy_mj=energy.value, usd_per_kwh=usd_per_kwh, pue=pue, batch_size=batch_size
    )
    return _derived(
        Resource.usd_per_million,
        energy,
        value,
        model=f"electricity at {usd_per_kwh:g} USD/kWh, PUE {pue:g}",
    )


def _derived(resource: Resource, base: Measurement, value: float, *, model: str) -> Measurement:
    """An estimate in the setting of ``base``, without its spread."""
    blank = Measurement(value=value, unit=resource.unit, method=Method.estimated)
    return replace(
        blank,
        device=base.device,
        runtime=base.runtime,
        num_threads=base.num_threads,
        batch_size=base.batch_size,
        dtype=base.dtype,
        model=model,
        unsupported=base.unsupported,
    )


def _lack_of_memory(
    network: nn.Module, example: Example, memory_bytes: Mapping[str, float | None]
) -> tuple[str, ...]:
    """A remark for each memory that the network does not fit into, which latency leaves out."""
    given = {name: size for name, size in memory_bytes.items() if size is not None}
    if not given:
        return ()
    weights = loaded_bytes(network)
    activations = batch_size_of(example) * peak_memory_bytes(network, example)
    needed = {"memory": weights + activations, "flash": weights, "SRAM": activations}
    return tuple(
        f"{LACK} {name}: {needed[name]:.0f} of {size:.0f} bytes needed"
        for name, size in given.items()
        if needed[name] > size
    )
