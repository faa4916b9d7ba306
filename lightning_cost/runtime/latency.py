"""The latency of a deployed network, measured on the runtime that is to run it."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from lightning_cost.cost.forward import Example, batch_size_of
from lightning_cost.cost.measurement import Measurement, Method
from lightning_cost.cost.resource import Resource
from lightning_cost.runtime.contract import DEPLOYABLE, get_runtime
from lightning_cost.runtime.device import device_name, device_of, synchronize
from lightning_cost.runtime.onnx_file import write_onnx
from lightning_cost.runtime.session import FileRuntime, Runtime, Session
from lightning_cost.runtime.timing import Timing, TimingSettings, time_alternating, time_calls


def measure_latency(
    network: nn.Module,
    example: Example,
    *,
    runtime: str,
    num_threads: int,
    precision: str = "float32",
    settings: TimingSettings | None = None,
    file: Path | None = None,
) -> Measurement:
    """The median time of one forward pass of ``network`` on ``example``, on this machine.

    Args:
        network: As deployed, on the device of ``example``.
        example: One batch; the time is that of the whole batch.
        runtime: Name of an installed runtime; off the CPU only ``"eager"``.
        num_threads: Threads for one forward pass.
        precision: Floating-point type of the arithmetic.
        settings: How many calls to time.
        file: ``network`` as an ONNX file, to spare runtimes that run those an export of their own.

    Raises:
        ValueError: If the runtime is unknown, not installed, or does not run on the device, or
            the network cannot be converted for it.
    """
    device = device_of(example)
    loader = _runtime_on(device, runtime, precision)
    if file is not None and isinstance(loader, FileRuntime):
        loaded = loader.open_for(file, example, num_threads=num_threads)
    else:
        loaded = loader.load(network, example, num_threads=num_threads)
    with loaded as session:
        timing = time_calls(
            session.bind(example), settings=settings, synchronize=lambda: synchronize(device)
        )
    return _measurement(
        timing, example, runtime=runtime, num_threads=num_threads, precision=precision
    )


def _runtime_on(device: torch.device, runtime: str, precision: str) -> Runtime:
    if device.type != "cpu" and runtime != "eager":
        raise ValueError(
            f"runtime must be eager on device {device.type}, got {runtime!r}; "
            "move the network and the example to the CPU, or use eager"
        )
    return get_runtime(runtime, precision=precision)


def _measurement(
    timing: Timing, example: Example, *, runtime: str, num_threads: int, precision: str
) -> Measurement:
    return Measurement(
        value=timing.median_ms,
        unit=Resource.latency_ms.unit,
        method=Method.measured,
        spread=timing.iqr_ms,
        interval=timing.interval_ms,
        p95=timing.p95_ms,
        num_samples=timing.num_samples,
        stopped_by=timing.stopped_by,
        device=device_name(device_of(example)),
        runtime=runtime,
        num_threads=num_threads,
        batch_size=batch_size_of(example),
        dtype=precision,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Latencies:
    """The latencies of one network by runtime.

    Args:
        measured: The latency on each runtime that runs the network.
        failures: Why the others do not.
    """

    measured: dict[str, Measurement]
    failures: dict[str, ValueError]


def measure_latencies(
    network: nn.Module,
    example: Example,
    *,
    runtimes: Sequence[str],
    num_threads: int,
    precision: str = "float32",
    settings: TimingSettings | None = None,
) -> Latencies:
    """What :func:`measure_latency` finds on each of ``runtimes``, of one export for all of them.

    One runtime after the other, so that each has the processor to itself.
    """
    found = Latencies(measured={}, failures={})
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        for runtime in runtimes:
            try:
                if runtime in DEPLOYABLE and not file.exists():
                    write_onnx(network, example, file)
                found.measured[runtime] = measure_latency(
                    network,
                    example,
                    runtime=runtime,
                    num_threads=num_threads,
                    precision=precision,
                    settings=settings,
                    file=file,
                )
            except ValueError as error:  # noqa: PERF203 (a measurement takes longer than the try)
                found.failures[runtime] = error
    return found


def measure_side_by_side(
    networks: Mapping[str, nn.Module],
    example: Example,
    *,
    runtimes: Sequence[str],
    num_threads: int,
    precision: str = "float32",
    settings: TimingSettings | None = None,
) -> dict[str, Latencies]:
    """The latencies of several networks on each of ``runtimes``, all of them in turn.

    Whatever slows the machine down meanwhile slows them all: their ratios can be believed where
    figures that were taken an hour apart cannot.

    Args:
        networks: As deployed, by name, on the device of ``example``.
        example: One batch, as each of the networks takes it.
        runtimes: Names of installed runtimes.
        num_threads: Threads for one forward pass.
        precision: Floating-point type of the arithmetic.
        settings: How many calls to time, for each network on each runtime.
    """
    found = {name: Latencies(measured={}, failures={}) for name in networks}
    with InTurn(example, num_threads=num_threads, precision=precision, settings=settings) as turns:
        for name, network in networks.items():
            turns.add(name, network)
        readings = turns.read([(name, runtime) for name in networks for runtime in runtimes])
    for (name, runtime), reading in readings.items():
        if isinstance(reading, Measurement):
            found[name].measured[runtime] = reading
        else:
            found[name].failures[runtime] = reading
    return found


class InTurn:
    """Networks that are timed in turn as often as wanted, each time loaded anew.

    Where a network comes to lie in memory makes it some tenths of a percent faster or slower for
    as long as it is loaded: readings of several loads tell more than a longer one. Each network is
    exported once, when it is first read. A context manager; it owns the files.

    Args:
        example: One batch, as each of the networks takes it.
        num_threads: Threads for one forward pass.
        precision: Floating-point type of the arithmetic.
        settings: How many calls to time, for each network on each runtime, at each reading.
    """

    def __init__(
        self,
        example: Example,
        *,
        num_threads: int,
        precision: str = "float32",
        settings: TimingSettings | None = None,
    ) -> None:
        self._example = example
        self._num_threads = num_threads
        self._precision = precision
        self._settings = settings
        self._networks: dict[str, nn.Module] = {}
        self._files: dict[str, Path] = {}
        self._stack = ExitStack()
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))

    def __enter__(self) -> "InTurn":
        return self

    def __exit__(self, *details: object) -> None:
        self._stack.close()

    def add(self, name: str, network: nn.Module) -> None:
        """Take in a network, as deployed, on the device of the example."""
        self._networks[name] = network
        self._files.setdefault(name, self._folder / f"{len(self._files)}.onnx")

    def forget(self, name: str) -> None:
        """Let go of a network; its file is kept, for when it is taken in again."""
        del self._networks[name]

    def read(
        self, pairs: Sequence[tuple[str, str]]
    ) -> dict[tuple[str, str], Measurement | ValueError]:
        """Latencies of pairs of a network's name and a runtime's, or why there is none."""
        device = device_of(self._example)
        found: dict[tuple[str, str], Measurement | ValueError] = {}
        calls: dict[tuple[str, str], Callable[[], object]] = {}
        with ExitStack() as stack:
            for pair in pairs:
                try:
                    session = stack.enter_context(self._loaded(*pair))
                    calls[pair] = session.bind(self._example)
                except ValueError as error:  # noqa: PERF203 (loading takes longer than the try)
                    found[pair] = error
            timings = time_alternating(
                calls, settings=self._settings, synchronize=lambda: synchronize(device)
            )
        for pair, timing in timings.items():
            found[pair] = _measurement(
                timing,
                self._example,
                runtime=pair[1],
                num_threads=self._num_threads,
                precision=self._precision,
            )
        return found

    def _loaded(self, name: str, runtime: str) -> Session:
        loader = _runtime_on(device_of(self._example), runtime, self._precision)
        network = self._networks[name]
        if not isinstance(loader, FileRuntime):
            return loader.load(network, self._example, num_threads=self._num_threads)
        file = self._files[name]
        if not file.exists():
            write_onnx(network, self._example, file)
        return loader.open_for(file, self._example, num_threads=self._num_threads)
