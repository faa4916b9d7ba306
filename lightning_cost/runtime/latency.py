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
from lightning_cost.runtime.session import FileRuntime, Runtime
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
    device = device_of(example)
    found = {name: Latencies(measured={}, failures={}) for name in networks}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        calls: dict[tuple[str, str], Callable[[], object]] = {}
        for index, (name, network) in enumerate(networks.items()):
            file = folder / f"{index}.onnx"
            for runtime in runtimes:
                try:
                    loader = _runtime_on(device, runtime, precision)
                    if isinstance(loader, FileRuntime):
                        if not file.exists():
                            write_onnx(network, example, file)
                        session = loader.open_for(file, example, num_threads=num_threads)
                    else:
                        session = loader.load(network, example, num_threads=num_threads)
                    calls[name, runtime] = stack.enter_context(session).bind(example)
                except ValueError as error:  # noqa: PERF203 (loading takes longer than the try)
                    found[name].failures[runtime] = error
        timings = time_alternating(
            calls, settings=settings, synchronize=lambda: synchronize(device)
        )
    for (name, runtime), timing in timings.items():
        found[name].measured[runtime] = _measurement(
            timing, example, runtime=runtime, num_threads=num_threads, precision=precision
        )
    return found
