"""The latency of a deployed network, measured on the runtime that is to run it."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from lightning_cost.cost.forward import Example, batch_size_of
from lightning_cost.cost.measurement import Measurement, Method
from lightning_cost.cost.resource import Resource
from lightning_cost.runtime.contract import DEPLOYABLE, get_runtime
from lightning_cost.runtime.device import device_name, device_of, synchronize
from lightning_cost.runtime.onnx_file import write_onnx
from lightning_cost.runtime.session import FileRuntime
from lightning_cost.runtime.timing import TimingSettings, time_calls


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
    if device.type != "cpu" and runtime != "eager":
        raise ValueError(
            f"runtime must be eager on device {device.type}, got {runtime!r}; "
            "move the network and the example to the CPU, or use eager"
        )
    loader = get_runtime(runtime, precision=precision)
    if file is not None and isinstance(loader, FileRuntime):
        loaded = loader.open_for(file, example, num_threads=num_threads)
    else:
        loaded = loader.load(network, example, num_threads=num_threads)
    with loaded as session:
        timing = time_calls(
            session.bind(example), settings=settings, synchronize=lambda: synchronize(device)
        )
    return Measurement(
        value=timing.median_ms,
        unit=Resource.latency_ms.unit,
        method=Method.measured,
        spread=timing.iqr_ms,
        device=device_name(device),
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
    """What :func:`measure_latency` finds on each of ``runtimes``, of one export for all of them."""
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
