"""What each layer of a deployed network costs in one scheme or another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from lightning_cost.cost.forward import Example, with_batch_size
from lightning_cost.cost.resource import Resource
from lightning_cost.cost.size import stored_bytes
from lightning_cost.hardware.device import Hardware
from lightning_cost.hardware.energy import EnergyModel
from lightning_cost.hardware.layers import Layer, layers_of, num_shifts
from lightning_cost.quantization.convert import StoredIntegers, stored_layers
from lightning_cost.quantization.schemes.scheme import Scheme


@dataclass(frozen=True, kw_only=True, slots=True)
class Prices:
    """Costs of a network by part.

    Args:
        layers: For each layer, one cost by resource for each of its schemes.
        rest: What no scheme changes, by resource.
    """

    layers: Mapping[str, Sequence[Mapping[Resource, float]]]
    rest: Mapping[Resource, float]


def follows_bits(resource: Resource, hardware: Hardware | None) -> bool:
    """Whether a scheme of fewer bits has less of ``resource``.

    Size has; energy has where an analytic model prices it. Every scheme runs on int8 arithmetic on
    the runtimes here, so nothing that is measured, and no latency, follows the bits.
    """
    if resource is Resource.size_bytes:
        return True
    is_modelled = hardware is not None and hardware.has_modelled_energy
    return resource is Resource.energy_mj and is_modelled


def prices_of(
    deployed: nn.Module,
    example: Example,
    schemes: Mapping[str, Sequence[Scheme]],
    *,
    resources: Sequence[Resource],
    hardware: Hardware | None,
) -> Prices:
    """The costs of ``deployed`` by layer and scheme.

    Args:
        deployed: Converted, in any schemes.
        example: What one forward pass takes.
        schemes: Of each layer with stored integers, by its name.
        resources: Those that :func:`follows_bits` says yes to.
        hardware: Whose energy model counts.
    """
    stored = {name: weight for name, (weight, _) in stored_layers(deployed).items()}
    layers: dict[str, list[dict[Resource, float]]] = {
        name: [{} for _ in given] for name, given in schemes.items()
    }
    rest: dict[Resource, float] = {}
    if Resource.size_bytes in resources:
        now = 0.0
        for name, given in schemes.items():
            now += _num_bytes(stored[name], stored[name].stored_bits["values"])
            for costs, scheme in zip(layers[name], given, strict=True):
                bits = StoredIntegers.bits_of(scheme.weight_bits)
                costs[Resource.size_bytes] = _num_bytes(stored[name], bits)
        rest[Resource.size_bytes] = stored_bytes(deployed) - now
    if Resource.energy_mj in resources:
        assert hardware is not None
        assert hardware.energy_model is not None
        model = EnergyModel.load(hardware.energy_model, is_shift_add=hardware.is_shift_add or None)
        found, _ = layers_of(deployed, with_batch_size(example, hardware.batch_size))
        own = [layer for layer in found if layer.name in schemes]
        rest[Resource.energy_mj] = model.energy_mj(found) - model.energy_mj(own)
        for name, given in schemes.items():
            for costs, scheme in zip(layers[name], given, strict=True):
                costs[Resource.energy_mj] = model.energy_mj(
                    _in_scheme(layer, scheme) for layer in own if layer.name == name
                )
    return Prices(layers=layers, rest=rest)


def _num_bytes(weight: StoredIntegers, bits: float) -> float:
    return weight.values.numel() * bits / 8


def _in_scheme(layer: Layer, scheme: Scheme) -> Layer:
    bits = StoredIntegers.bits_of(scheme.weight_bits)
    return replace(
        layer,
        weight_bits=bits,
        weight_bytes=layer.weight_bytes * bits / layer.weight_bits,
        num_shifts=num_shifts(scheme.levels),
    )
