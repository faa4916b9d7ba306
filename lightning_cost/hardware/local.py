"""Latency and energy on this machine, on a runtime by name or on whichever is the fastest."""

import warnings
from dataclasses import dataclass
from functools import lru_cache

from torch import nn

from lightning_cost.cost.forward import Example
from lightning_cost.cost.measurement import Measurement
from lightning_cost.hardware.joules import EnergyCounters, NoCounters, open_counters
from lightning_cost.hardware.measured_energy import IdlePower, measure_energy, measure_idle
from lightning_cost.runtime.contract import (
    DEPLOYABLE,
    RUNTIMES,
    get_runtime,
    installed_runtimes,
)
from lightning_cost.runtime.eager import EagerRuntime
from lightning_cost.runtime.latency import Latencies, measure_latencies, measure_latency


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

    Runtimes that run a file come first, as a file is what is deployed; PyTorch is for networks that
    none of them can run. Those are left out, with a warning, as long as another can.

    Raises:
        ValueError: If no runtime can run the network, or ``runtime`` is unknown.
    """
    if runtime is not None:
        return measure_latency(
            network, example, runtime=runtime, num_threads=num_threads, precision=precision
        )
    candidates = candidate_runtimes(precision)
    by_kind = (
        [name for name in candidates if name in DEPLOYABLE],
        [name for name in candidates if name not in DEPLOYABLE],
    )
    found = Latencies(measured={}, failures={})
    for runtimes in by_kind:
        if not found.measured:
            more = measure_latencies(
                network, example, runtimes=runtimes, num_threads=num_threads, precision=precision
            )
            found.measured.update(more.measured)
            found.failures.update(more.failures)
    reasons = "; ".join(f"{name}: {error}" for name, error in found.failures.items())
    if not found.measured:
        raise ValueError(
            f"runtime must be able to run the network in {precision}, got none that is: "
            f"{reasons or 'no installed runtime offers it'}; choose another precision"
        )
    if reasons:
        warnings.warn(f"runtime=auto left out {reasons}", stacklevel=2)
    return min(found.measured.values(), key=lambda measurement: measurement.value)


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalCounters:
    """This machine's energy counters, all of which move, and its idle power."""

    counters: EnergyCounters
    idle: IdlePower


@lru_cache(maxsize=1)
def local_counters() -> LocalCounters | NoCounters:
    """The counters that inference is measured with, opened once for the process.

    They are watched for a second: that is the idle power, and a counter that does not move, as a
    virtual machine may show, is no counter.
    """
    opened = open_counters()
    if isinstance(opened, NoCounters):
        return opened
    idle = measure_idle(opened)
    still = [domain for domain, watts in idle.watts.items() if watts <= 0]
    if still:
        opened.close()
        return NoCounters(reason=f"{', '.join(still)}: does not move in {idle.seconds:.1f} s")
    return LocalCounters(counters=opened, idle=idle)


def measure_local_energy(
    network: nn.Module,
    example: Example,
    latency: Measurement,
    local: LocalCounters,
    *,
    subtract_idle: bool = False,
) -> Measurement:
    """Measured energy of one forward pass, on the runtime and in the setting of ``latency``.

    Raises:
        ValueError: If the network cannot be loaded, or a counter does not move.
    """
    assert latency.runtime is not None
    assert latency.num_threads is not None
    runtime = get_runtime(latency.runtime, precision=latency.dtype or "float32")
    with runtime.load(network, example, num_threads=latency.num_threads) as session:
        run = session.bind(example)
        run()
        reading = measure_energy(
            run,
            local.counters,
            idle=local.idle,
            subtract_idle=subtract_idle,
            provenance=latency,
        )
    return reading.measurement
