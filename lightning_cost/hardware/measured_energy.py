"""Joules of one forward pass, from the machine's energy counters."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from lightning_cost.cost.measurement import Measurement, Method
from lightning_cost.cost.resource import Resource
from lightning_cost.hardware.joules import EnergyCounters

MIN_WINDOW_S = 0.1
"""A hundred times the millisecond in which RAPL counters are updated."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IdlePower:
    """What the counted devices draw when nothing of this is run.

    Args:
        watts: By domain.
        seconds: How long it was measured.
    """

    watts: dict[str, float]
    seconds: float

    @property
    def total_w(self) -> float:
        """Watts of all domains."""
        return sum(self.watts.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class EnergyReading:
    """Energy of a forward pass, and how it was measured.

    Args:
        measurement: Millijoules of one forward pass; the median over the windows.
        by_domain_mj: The same by domain.
        idle: Idle power, where it was measured.
        is_idle_subtracted: Whether the value is only what goes beyond idle power.
        num_windows: Readings of the counters.
        num_repetitions: Forward passes in each.
    """

    measurement: Measurement
    by_domain_mj: dict[str, float]
    idle: IdlePower | None
    is_idle_subtracted: bool
    num_windows: int
    num_repetitions: int


def measure_idle(
    counters: EnergyCounters,
    *,
    seconds: float = 1.0,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> IdlePower:
    """What the machine draws while this process waits; what others do on it counts as idle."""
    started_at, before = clock(), counters.read_j()
    sleep(seconds)
    after, waited_s = counters.read_j(), clock() - started_at
    watts = {domain: (after[domain] - before[domain]) / waited_s for domain in before}
    return IdlePower(watts=watts, seconds=waited_s)


def measure_energy(
    run: Callable[[], object],
    counters: EnergyCounters,
    *,
    idle: IdlePower | None = None,
    subtract_idle: bool = False,
    num_windows: int = 5,
    clock: Callable[[], float] = time.perf_counter,
    provenance: Measurement | None = None,
) -> EnergyReading:
    """Joules of ``run``: one forward pass, synchronised where its device is asynchronous.

    It is repeated until a window of at least 100 ms has passed, which counters of millisecond
    resolution tell to about a per cent, and the windows are repeated for the spread.

    Args:
        run: The forward pass, warmed up.
        counters: Opened.
        idle: From :func:`measure_idle`, before; named in the result.
        subtract_idle: Whether idle power × time is taken off.
        num_windows: Windows to take the median of.
        clock: Seconds that never go back.
        provenance: A latency of the same network in the same setting, whose device, runtime,
            threads, batch and precision the result takes over.

    Raises:
        ValueError: If idle power is to be subtracted and was not measured, if it exceeds what was
            measured, or if a counter did not move.
    """
    if subtract_idle and idle is None:
        raise ValueError(
            "idle must be given to be subtracted, got None; measure_idle(counters) measures it"
        )
    if num_windows < 1:
        raise ValueError(f"num_windows must be >= 1, got {num_windows}; 5 give a spread")
    num_repetitions = _repetitions(run, clock)
    windows = [_window(run, counters, num_repetitions, clock) for _ in range(num_windows)]
    _check_moved(windows)
    idle_w = idle.watts if idle is not None and subtract_idle else {}
    domains_mj = [
        {
            domain: (joules - idle_w.get(domain, 0.0) * seconds) * 1e3 / num_repetitions
            for domain, joules in moved.items()
        }
        for moved, seconds in windows
    ]
    totals = [sum(each.values()) for each in domains_mj]
    value = statistics.median(totals)
    if value <= 0:
        raise ValueError(
            f"energy beyond idle power must be > 0, got {value:.3g} mJ; the machine was busier "
            "when it should have idled: measure again, or without subtract_idle"
        )
    return EnergyReading(
        measurement=_measurement(value, totals, counters, idle, subtract_idle, provenance),
        by_domain_mj={
            domain: statistics.median(each[domain] for each in domains_mj)
            for domain in domains_mj[0]
        },
        idle=idle,
        is_idle_subtracted=subtract_idle,
        num_windows=num_windows,
        num_repetitions=num_repetitions,
    )


def _repetitions(run: Callable[[], object], clock: Callable[[], float]) -> int:
    """How many forward passes take at least the shortest window."""
    num_repetitions = 1
    while True:
        started_at = clock()
        for _ in range(num_repetitions):
            run()
        took_s = clock() - started_at
        if took_s >= MIN_WINDOW_S:
            return num_repetitions
        enough = num_repetitions * MIN_WINDOW_S / took_s if took_s > 0 else 0
        num_repetitions = max(2 * num_repetitions, int(1.1 * enough) + 1)


def _window(
    run: Callable[[], object],
    counters: EnergyCounters,
    num_repetitions: int,
    clock: Callable[[], float],
) -> tuple[dict[str, float], float]:
    started_at, before = clock(), counters.read_j()
    for _ in range(num_repetitions):
        run()
    after, took_s = counters.read_j(), clock() - started_at
    return {domain: after[domain] - before[domain] for domain in before}, took_s


def _check_moved(windows: list[tuple[dict[str, float], float]]) -> None:
    for domain in windows[0][0]:
        if not any(moved[domain] > 0 for moved, _ in windows):
            raise ValueError(
                f"the energy counter of {domain} must move while a network runs, got no joule in "
                f"{sum(seconds for _, seconds in windows):.1f} s; a virtual machine may only "
                "pretend to have it: estimate energy, or measure on the host"
            )


def _measurement(
    value: float,
    totals: list[float],
    counters: EnergyCounters,
    idle: IdlePower | None,
    subtract_idle: bool,
    provenance: Measurement | None,
) -> Measurement:
    left_out = [f"{name}: {reason}" for name, reason in counters.missing.items()]
    if idle is not None and subtract_idle:
        left_out.append(f"idle power of {idle.total_w:.3g} W, subtracted")
    low, _, high = statistics.quantiles(totals, n=4) if len(totals) > 1 else [value] * 3
    return Measurement(
        value=value,
        unit=Resource.energy_mj.unit,
        method=Method.measured,
        spread=high - low,
        device=None if provenance is None else provenance.device,
        runtime=None if provenance is None else provenance.runtime,
        num_threads=None if provenance is None else provenance.num_threads,
        batch_size=None if provenance is None else provenance.batch_size,
        dtype=None if provenance is None else provenance.dtype,
        model=f"counters: {', '.join(counters.domains)}{_said(idle, subtract_idle)}",
        unsupported=tuple(left_out),
    )


def _said(idle: IdlePower | None, subtract_idle: bool) -> str:
    if idle is None:
        return "; idle power included, not measured"
    return f"; idle power of {idle.total_w:.3g} W {'subtracted' if subtract_idle else 'included'}"
