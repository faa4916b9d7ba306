"""What other callbacks of a Trainer ask of its monitors."""

from collections.abc import Iterable, Sequence

from lightning_cost.cost.measurement import Cost
from lightning_cost.cost.resource import Resource
from lightning_cost.hardware.device import Hardware
from lightning_cost.monitor.callback import CostMonitor


def known_dense(
    callbacks: Iterable[object], resources: Sequence[Resource], hardware: Hardware | None
) -> Cost | None:
    """The dense cost that a monitor has measured already, so that all speak of one.

    Args:
        callbacks: Of the Trainer.
        resources: What is wanted.
        hardware: The device that it must have been measured for; ``None`` for any.

    Returns:
        The wanted resources; ``None`` if no monitor knows all of them.
    """
    for entry in callbacks:
        if isinstance(entry, CostMonitor) and entry.dense is not None:
            is_alike = hardware is None or entry.hardware == hardware
            if is_alike and all(resource in entry.dense for resource in resources):
                return {resource: entry.dense[resource] for resource in resources}
    return None


def count_steps_anew(callbacks: Iterable[object]) -> None:
    """Tell the monitors that a training step has another price from here on."""
    for entry in callbacks:
        if isinstance(entry, CostMonitor):
            entry.meter.training.forget_shapes()
