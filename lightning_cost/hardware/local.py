"""Latency on this machine, on a runtime by name or on whichever is the fastest."""

import warnings

from torch import nn

from lightning_cost.cost.forward import Example
from lightning_cost.cost.measurement import Measurement
from lightning_cost.runtime.contract import DEPLOYABLE, RUNTIMES, installed_runtimes
from lightning_cost.runtime.eager import EagerRuntime
from lightning_cost.runtime.latency import measure_latencies, measure_latency


def candidate_runtimes(precision: str) -> list[str]:
    """The installed runtimes that a network may be deployed on in ``precision``.

    PyTorch eager is among them, ``torch.compile`` is not: it would compile anew at every change.

    >>> "eager" in candidate_runtimes("float32")
    True
    """
    wanted = {EagerRuntime.name, *DEPLOYABLE}
    return [
        name
        for name in installed_runtimes()
        if name in wanted and precision in RUNTIMES[name].precisions
    ]


def measure_fastest(
    network: nn.Module,
    example: Example,
    *,
    runtime: str | None,
    num_threads: int,
    precision: str,
) -> Measurement:
    """The latency of a deployed network on ``runtime``, or on the fastest one where it is None.

    A runtime that cannot run the network is left out, with a warning, as long as another can.

    Raises:
        ValueError: If no runtime can run the network, or ``runtime`` is unknown.
    """
    if runtime is not None:
        return measure_latency(
            network, example, runtime=runtime, num_threads=num_threads, precision=precision
        )
    found = measure_latencies(
        network,
        example,
        runtimes=candidate_runtimes(precision),
        num_threads=num_threads,
        precision=precision,
    )
    reasons = "; ".join(f"{name}: {error}" for name, error in found.failures.items())
    if not found.measured:
        raise ValueError(
            f"runtime must be able to run the network in {precision}, got none that is: "
            f"{reasons or 'no installed runtime offers it'}; choose another precision"
        )
    if reasons:
        warnings.warn(f"runtime=auto left out {reasons}", stacklevel=2)
    return min(found.measured.values(), key=lambda measurement: measurement.value)
