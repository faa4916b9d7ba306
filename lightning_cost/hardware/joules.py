"""Joules that this machine has counted: RAPL for CPU and DRAM, the driver's counters for GPUs.

The counters are found and opened by ``zeus`` (extra ``energy``). What is added here are rules: a
counter that is missing is a reason, never 0; one that wraps around goes on; one process of a node
reads, so that no device is counted twice.
"""

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from typing_extensions import Self

MAX_POWER_W = 1000.0
"""More than any one domain draws: what bounds the time until a counter can have wrapped around."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NoCounters:
    """Why no energy is measured here."""

    reason: str


class Counter:
    """One counter as a number of joules that never decreases, from when it was made.

    Args:
        read_j: What the counter says, in joules.
        range_j: Where it wraps around to 0; ``None`` if it never does.

    >>> values = iter([90.0, 95.0, 10.0])
    >>> counter = Counter(lambda: next(values), range_j=100.0)
    >>> counter.read(), counter.read()
    (5.0, 20.0)

    Raises:
        ValueError: If ``read`` finds that a counter without a range went back.
    """

    def __init__(self, read_j: Callable[[], float], *, range_j: float | None = None) -> None:
        self._read_j = read_j
        self._range_j = range_j
        self._last_j = read_j()
        self._total_j = 0.0
        self._lock = threading.Lock()

    def read(self) -> float:
        """Joules since it was made; to be called at least once between two wrap-arounds."""
        with self._lock:
            now_j = self._read_j()
            step_j = now_j - self._last_j
            if step_j < 0 and self._range_j is None:
                raise ValueError(
                    f"an energy counter must not go back, got {now_j} J after {self._last_j} J; "
                    "the driver was reset: start the measurement anew"
                )
            if step_j < 0 and self._range_j is not None:
                step_j += self._range_j
            self._last_j = now_j
            self._total_j += step_j
            return self._total_j

    @property
    def longest_gap_s(self) -> float:
        """Seconds within which it must be read again, lest a wrap-around be missed."""
        return math.inf if self._range_j is None else self._range_j / MAX_POWER_W


class EnergyCounters:
    """The counters of this machine's devices.

    A thread reads them often enough that no wrap-around is missed, until :meth:`close`.

    Args:
        counters: By domain: ``"cpu_package:0"``, ``"dram:0"``, ``"gpu:0"``.
        missing: Domains, or kinds of them, that are not counted, and why.
        wait: Waits for so many seconds, and says whether to end; the thread's clock.

    Raises:
        ValueError: If there is no counter at all.
    """

    def __init__(
        self,
        counters: Mapping[str, Counter],
        missing: Mapping[str, str] | None = None,
        *,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        if not counters:
            raise ValueError("counters must hold at least one, got none; see open_counters()")
        self.missing = dict(missing or {})
        self._counters = dict(counters)
        self._closed = threading.Event()
        self._wait = self._closed.wait if wait is None else wait
        gap_s = min(counter.longest_gap_s for counter in counters.values()) / 2
        if math.isfinite(gap_s):
            threading.Thread(target=self._keep_reading, args=(gap_s,), daemon=True).start()

    @property
    def domains(self) -> tuple[str, ...]:
        """What is counted."""
        return tuple(self._counters)

    def read_j(self) -> dict[str, float]:
        """Joules by domain since opening; no domain is part of another, so that they add up.

        Raises:
            OSError: If a counter can no longer be read.
            ValueError: If a counter went back that does not wrap around.
        """
        return {domain: counter.read() for domain, counter in self._counters.items()}

    def close(self) -> None:
        """Stop the thread; the counters can still be read."""
        self._closed.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _keep_reading(self, gap_s: float) -> None:
        with suppress(OSError, ValueError):  # whoever reads next is told
            while not self._wait(gap_s):
                self.read_j()


def reads_energy(local_rank: int) -> bool:
    """Whether the process of this rank on its node is the one that reads the node's counters.

    >>> [reads_energy(rank) for rank in range(4)]
    [True, False, False, False]
    """
    return local_rank == 0


def open_counters(
    *, local_rank: int = 0, gpu_indices: Sequence[int] | None = None
) -> EnergyCounters | NoCounters:
    """The energy counters of this machine, or why there are none.

    CPU packages and DRAM count the whole machine, whatever else runs on it.

    Args:
        local_rank: This process's rank on its node; only 0 reads.
        gpu_indices: GPUs to count, as ``CUDA_VISIBLE_DEVICES`` numbers them; ``None`` for all.
    """
    if not reads_energy(local_rank):
        return NoCounters(reason=f"local rank 0 reads the node's counters, this is {local_rank}")
    try:
        import zeus.device  # noqa: F401
    except ImportError as error:
        return NoCounters(
            reason=f"zeus must be installed to read energy counters, got: {error}; "
            "pip install 'lightning-cost[energy]'"
        )
    counters: dict[str, Counter] = {}
    missing: dict[str, str] = {}
    _add_cpus(counters, missing)
    _add_gpus(counters, missing, gpu_indices)
    if not counters:
        return NoCounters(reason="; ".join(f"{kind}: {why}" for kind, why in missing.items()))
    return EnergyCounters(counters, missing)


def _add_cpus(counters: dict[str, Counter], missing: dict[str, str]) -> None:
    from zeus.device import get_cpus

    try:
        cpus = get_cpus().cpus
        zones = [_zones(cpu, index) for index, cpu in enumerate(cpus)]
    except Exception as error:
        missing["cpu"] = _reason(error, remedy="RAPL needs root, readable files or zeus's daemon")
        return
    found = {domain: counter for each in zones for domain, counter in each.items()}
    if any(domain.startswith("cpu_package") for domain in found):
        # of a laptop's whole platform the packages and their memory are parts
        found = {name: value for name, value in found.items() if not name.startswith("platform")}
    counters.update(found)
    if not found:
        missing["cpu"] = "RAPL names no zone"
    elif not any(domain.startswith("dram") for domain in found):
        missing["dram"] = "RAPL names no such zone on this CPU"


def _zones(cpu: Any, index: int) -> dict[str, Counter]:
    """The counters of one RAPL zone and of the memory below it.

    zeus's own ``get_total_energy_consumption`` learns of a wrap-around up to a second late, and
    starts a process for it; so it opens the files, and they are read here.
    """
    package = getattr(cpu, "rapl_file", None)
    if package is None:  # through zeus's daemon
        zones = {f"cpu_package:{index}": Counter(lambda: _daemon_j(cpu, "cpu_mj"))}
        if cpu.supports_get_dram_energy_consumption():
            zones[f"dram:{index}"] = Counter(lambda: _daemon_j(cpu, "dram_mj"))
        return zones
    kind = "platform" if package.name == "psys" else "cpu_package"
    zones = {f"{kind}:{index}": _file_counter(package)}
    if cpu.dram is not None:
        zones[f"dram:{index}"] = _file_counter(cpu.dram)
    return zones


def _file_counter(rapl_file: Any) -> Counter:
    path = Path(rapl_file.energy_uj_path)
    return Counter(
        lambda: float(path.read_text()) / 1e6, range_j=rapl_file.max_energy_range_uj / 1e6
    )


def _daemon_j(cpu: Any, name: str) -> float:
    value = getattr(cpu.get_total_energy_consumption(), name)
    if value is None:
        raise OSError(f"zeus's daemon gave no {name}")
    return float(value) / 1e3


def _add_gpus(
    counters: dict[str, Counter], missing: dict[str, str], indices: Sequence[int] | None
) -> None:
    from zeus.device import get_gpus

    if indices is not None and not indices:
        return
    try:
        gpus = get_gpus()
        num_gpus = len(gpus)
    except Exception as error:
        if torch.cuda.is_available() or not counters:
            missing["gpu"] = _reason(error, remedy="no counter without its driver")
        return
    for index in range(num_gpus) if indices is None else indices:
        try:
            if not gpus.supports_get_total_energy_consumption(index):
                missing[f"gpu:{index}"] = "it has no energy counter (NVIDIA: since Volta)"
                continue
            counters[f"gpu:{index}"] = Counter(_gpu_reader(gpus, index))
        except Exception as error:
            missing[f"gpu:{index}"] = _reason(error, remedy="see its driver")


def _gpu_reader(gpus: Any, index: int) -> Callable[[], float]:
    return lambda: float(gpus.get_total_energy_consumption(index)) / 1e3


def _reason(error: Exception, *, remedy: str) -> str:
    return f"{type(error).__name__}: {error}".rstrip(" :.") + f" ({remedy})"
