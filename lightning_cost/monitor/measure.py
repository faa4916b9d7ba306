"""What a network costs once it is deployed."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from lightning_cost.cost.forward import Example, map_tensors
from lightning_cost.cost.macs import count_macs
from lightning_cost.cost.measurement import Cost, Measurement
from lightning_cost.cost.memory import peak_memory_bytes
from lightning_cost.cost.resource import Resource
from lightning_cost.cost.shape_only import ShapeOnly
from lightning_cost.cost.size import count_params, size_bytes
from lightning_cost.hardware.device import Hardware
from lightning_cost.network.deploy import deploy, deployed_copy


def measure(
    network: nn.Module,
    example: Example,
    *,
    hardware: Hardware | None = None,
    resources: Sequence[Resource | str] | None = None,
) -> Cost:
    """What ``network`` costs as it would be deployed: batch norm folded, quantisation converted.

    Args:
        network: Any network; it is left as it was found.
        example: What one forward pass takes, batch in dimension 0.
        hardware: The device for latency, energy and price; without it they are left out.
        resources: What to price; by default everything that can be.

    Returns:
        One measurement for each resource.

    Raises:
        ValueError: If a resource is unknown, or cannot be priced on ``hardware``.

    >>> cost = measure(nn.Linear(3, 4), torch.zeros(1, 3), resources=["macs", "params"])
    >>> {str(resource): measurement.value for resource, measurement in cost.items()}
    {'macs': 12, 'params': 16}
    """
    wanted = _wanted(resources, hardware)
    with torch.random.fork_rng(devices=[]):
        return _priced(deployed_copy(network, example), example, hardware, wanted)


def measure_structure(
    network: nn.Module,
    example: Example,
    *,
    hardware: Hardware | None = None,
    resources: Sequence[Resource | str] | None = None,
) -> Cost:
    """As :func:`measure`, of a network on the meta device that nobody needs any more.

    It is deployed in place, and shapes are found by closed form where they can be. What the device
    lacks memory for is not remarked.

    Raises:
        ValueError: If a resource is unknown, or cannot be priced on ``hardware``.
    """
    wanted = _wanted(resources, hardware)
    with ShapeOnly():
        deploy(network, example)
        return _priced(network, example, hardware, wanted, has_remarks=False)


def _priced(
    deployed: nn.Module,
    example: Example,
    hardware: Hardware | None,
    wanted: Sequence[Resource],
    *,
    has_remarks: bool = True,
) -> Cost:
    weight = next(deployed.parameters(), torch.empty(0))
    example = map_tensors(lambda tensor: tensor.to(weight.device), example)
    cost = _counted(deployed, example, wanted)
    if hardware is not None and not all(resource.is_counted for resource in wanted):
        cost |= hardware.price(deployed, example, has_remarks=has_remarks)
    return {resource: cost[resource] for resource in wanted}


def _wanted(
    resources: Sequence[Resource | str] | None, hardware: Hardware | None
) -> list[Resource]:
    if resources is None:
        return [resource for resource in Resource if _reason(resource, hardware) is None]
    wanted = [_resource(resource) for resource in resources]
    for resource in wanted:
        reason = _reason(resource, hardware)
        if reason is not None:
            raise ValueError(reason)
    return wanted


def _resource(name: Resource | str) -> Resource:
    try:
        return Resource(name)
    except ValueError:
        known = ", ".join(map(str, Resource))
        raise ValueError(
            f"resources must be among {known}, got {name!r}; check the spelling"
        ) from None


def _reason(resource: Resource, hardware: Hardware | None) -> str | None:
    """Why ``resource`` cannot be priced, or ``None`` if it can."""
    if resource.is_counted:
        return None
    if hardware is None:
        return (
            f"hardware must be given to price {resource}, got None; "
            "pass hardware=Hardware.local() or Hardware.load(NAME)"
        )
    return hardware.missing(resource)


def _counted(deployed: nn.Module, example: Example, wanted: Sequence[Resource]) -> Cost:
    counters: dict[Resource, Callable[[nn.Module, Any], float]] = {
        Resource.params: lambda network, _: count_params(network),
        Resource.size_bytes: lambda network, _: size_bytes(network),
        Resource.peak_memory_bytes: peak_memory_bytes,
    }
    cost: Cost = {}
    if Resource.macs in wanted or Resource.flops in wanted:
        report = count_macs(deployed, example)
        cost[Resource.macs] = Measurement.exact(Resource.macs, report.total, report.unsupported)
        cost[Resource.flops] = Measurement.exact(Resource.flops, report.flops, report.unsupported)
    for resource, count in counters.items():
        if resource in wanted:
            cost[resource] = Measurement.exact(resource, count(deployed, example))
    return cost
