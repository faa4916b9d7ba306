"""The latency of a deployed network, measured on the runtime that is to run it."""

from torch import nn

from lightning_cost.cost.forward import Example, batch_size_of
from lightning_cost.cost.measurement import Measurement, Method
from lightning_cost.cost.resource import Resource
from lightning_cost.runtime.contract import get_runtime
from lightning_cost.runtime.device import device_name, device_of, synchronize
from lightning_cost.runtime.timing import TimingSettings, time_calls


def measure_latency(
    network: nn.Module,
    example: Example,
    *,
    runtime: str,
    num_threads: int,
    precision: str = "float32",
    settings: TimingSettings | None = None,
) -> Measurement:
    """The median time of one forward pass of ``network`` on ``example``, on this machine.

    Args:
        network: As deployed, on the device of ``example``.
        example: One batch; the time is that of the whole batch.
        runtime: Name of an installed runtime; off the CPU only ``"eager"``.
        num_threads: Threads for one forward pass.
        precision: Floating-point type of the arithmetic.
        settings: How many calls to time.

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
    with loader.load(network, example, num_threads=num_threads) as session:
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
