"""From a trained network to a file that a runtime has run: export, parity, accuracy, latency."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from lightning_cost.cost.forward import Example, with_batch_size
from lightning_cost.cost.measurement import Cost, Measurement
from lightning_cost.cost.resource import Resource
from lightning_cost.hardware.device import AUTO, Hardware
from lightning_cost.monitor.measure import measure
from lightning_cost.network.deploy import deployed_copy
from lightning_cost.network.faithful import faithful_copy
from lightning_cost.quantization.executorch_file import write_executorch
from lightning_cost.runtime.contract import (
    DEPLOYABLE,
    RUNTIMES,
    Session,
    installed_runtimes,
    open_file,
)
from lightning_cost.runtime.latency import InTurn, Latencies, measure_side_by_side
from lightning_cost.runtime.median import median_interval
from lightning_cost.runtime.onnx_file import write_onnx
from lightning_cost.runtime.openvino_ir import write_openvino_ir
from lightning_cost.runtime.parity import Parity, check_parity


def export(network: nn.Module, path: str | Path, example: Example, runtime: str = "onnx") -> Path:
    """Write the deployed form of ``network`` to a file that runtimes read.

    Batch norms are folded, fake quantisers become quantise/dequantise operators. ``network`` is
    left as it is.

    Args:
        network: Trained, dense or compressed.
        path: The file to write.
        example: What one forward pass takes; the batch axis stays dynamic.
        runtime: The file's format: ``"onnx"``, which ONNX Runtime and OpenVINO both read, or
            ``"openvino"`` for OpenVINO's own, an ``.xml`` file with a ``.bin`` beside it; or
            ``"executorch"`` for a ``.pte`` file with the batch of ``example``.

    Raises:
        ValueError: If ``runtime`` names no format that can be written, or ``path`` does not end
            as that format does; if the deployed form computes something else than ``network``.
    """
    if runtime not in _FORMATS:
        known = ", ".join(_FORMATS)
        raise ValueError(f"runtime must be one of {known}, got {runtime!r}; choose one of them")
    return _FORMATS[runtime](faithful_copy(network, example), example, Path(path))


_FORMATS: dict[str, Callable[[nn.Module, Example, Path], Path]] = {
    "onnx": write_onnx,
    "onnxruntime": write_onnx,
    "openvino": write_openvino_ir,
    "executorch": write_executorch,
}


PARITY_SAMPLES = 1024
NUM_READINGS = 9
"""How often the networks are loaded and timed where a limit depends on it; odd, for a median."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """A network as it was delivered.

    Args:
        cost: What it costs on the target.
        runtime: What ran the file for parity and accuracy.
        parity: How its outputs there compare with PyTorch's.
        metrics: Share of each data set that it classified right there, in [0, 1], by name.
    """

    cost: Cost
    runtime: str
    parity: Parity
    metrics: dict[str, float]


def deliver(
    network: nn.Module,
    path: Path,
    *,
    hardware: Hardware,
    latency: Measurement | None,
    evaluation: Mapping[str, Sequence[tuple[Tensor, Tensor]]],
    is_quantized: bool,
) -> Delivery:
    """Export ``network`` and take every figure from the file, as a runtime runs it.

    Args:
        network: Trained; left as it is.
        path: The ONNX file to write.
        hardware: The target.
        latency: As it was measured; ``None`` where the target's is estimated.
        evaluation: Batches of real images and labels, by the name of the metric; those of the
            first metric also serve the parity check.
        is_quantized: Whether parity is judged by equal predictions instead of equal values, as
            runtimes round integers differently.
    """
    images = _images_of(next(iter(evaluation.values())))
    example = images[:1]
    deployed = faithful_copy(network, example)
    write_onnx(deployed, example, path)
    cost = cost_of(network, example, hardware=hardware, latency=latency)
    runtime = _file_runtime(cost[Resource.latency_ms].runtime)
    with open_file(
        path, runtime=runtime, num_threads=hardware.num_threads, precision=hardware.precision
    ) as session:
        parity = check_parity(
            deployed,
            session,
            images,
            max_error_ratio=None if is_quantized else 1e-3,
            min_top1_agreement=0.995 if is_quantized else None,
        )
        metrics = {name: accuracy_of(session, batches) for name, batches in evaluation.items()}
    return Delivery(cost=cost, runtime=runtime, parity=parity, metrics=metrics)


def cost_of(
    network: nn.Module, example: Example, *, hardware: Hardware, latency: Measurement | None
) -> Cost:
    """What ``network`` costs once deployed: what is counted, and what ``hardware`` prices."""
    counted = [resource for resource in Resource if resource.is_counted]
    cost = measure(network, example, resources=counted)
    return cost | hardware.price(deployed_copy(network, example), example, latency=latency)


def _images_of(batches: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Enough images [N, C, H, W] that one different prediction does not decide parity."""
    num_batches = -(-PARITY_SAMPLES // len(batches[0][0]))
    return torch.cat([images for images, _ in batches[:num_batches]])


def accuracy_of(session: Session, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Share of samples whose largest logit is the label's, in [0, 1].

    Args:
        session: Returns logits [N, classes].
        batches: Images [N, C, H, W] and labels [N].
    """
    num_right = num_samples = 0
    for images, labels in batches:
        (logits, *_) = session.run(images)
        num_right += int((logits.argmax(axis=1) == labels.numpy()).sum())
        num_samples += len(labels)
    return num_right / num_samples


def latencies_of(
    networks: Mapping[str, nn.Module], example: Example, hardware: Hardware
) -> dict[str, Latencies]:
    """Latency of each network, as deployed, on every runtime that offers the target's precision.

    They are measured in turn, so that their ratios can be believed; empty if not on this machine.
    """
    runtimes = [
        name for name in installed_runtimes() if hardware.precision in RUNTIMES[name].precisions
    ]
    return measure_side_by_side(
        {name: deployed_copy(network, example) for name, network in networks.items()},
        with_batch_size(example, hardware.batch_size),
        runtimes=runtimes if hardware.is_local else [],
        num_threads=hardware.num_threads,
        precision=hardware.precision,
    )


def settle(
    latencies: Mapping[str, Latencies],
    networks: Mapping[str, nn.Module],
    example: Example,
    hardware: Hardware,
    runtimes: Mapping[str, str],
) -> None:
    """Put the medians of several more readings into ``latencies``, where a limit depends on them.

    At each of them the networks are loaded anew and take turns, as when the pruned one was chosen.
    One reading may be off by a percent or two, which decides whether a limit is kept.

    Args:
        latencies: As :func:`latencies_of` gave them; changed in place.
        networks: Trained, by name.
        example: What one forward pass takes.
        hardware: This machine.
        runtimes: What runs each of them.
    """
    example = with_batch_size(example, hardware.batch_size)
    readings: dict[tuple[str, str], list[Measurement]] = {}
    with InTurn(example, num_threads=hardware.num_threads, precision=hardware.precision) as turns:
        for name, network in networks.items():
            turns.add(name, deployed_copy(network, example))
        for _ in range(NUM_READINGS):
            for pair, found in turns.read(list(runtimes.items())).items():
                if isinstance(found, Measurement):
                    readings.setdefault(pair, []).append(found)
    for (name, runtime), taken in readings.items():
        values = [reading.value for reading in taken]
        middle = sorted(taken, key=lambda reading: reading.value)[len(taken) // 2]
        latencies[name].measured[runtime] = replace(middle, interval=median_interval(values))


def fastest(found: Latencies) -> Measurement | None:
    """The least latency on any runtime: what a dense network is quoted with."""
    return min(found.measured.values(), key=lambda latency: latency.value, default=None)


def as_delivered(found: Latencies, hardware: Hardware) -> Measurement | None:
    """The latency on the runtime that the network is delivered for.

    That is the target's; where it is to be chosen, the fastest one that runs the delivered file,
    even if PyTorch is faster, which does not. ``None`` if the target is not this machine.

    Raises:
        ValueError: If the network does not run on it.
    """
    if not hardware.is_local:
        return None
    named = None if hardware.runtime in (None, AUTO) else hardware.runtime
    wanted = list(found.measured) if named is None else [named]
    if named is None:
        wanted = [name for name in wanted if name in DEPLOYABLE]
    running = [found.measured[name] for name in wanted if name in found.measured]
    if not running:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in found.failures.items())
        raise ValueError(
            f"runtime must run the delivered network, got {hardware.runtime!r}: "
            f"{reasons or 'not installed'}; choose another one"
        )
    return min(running, key=lambda latency: latency.value)


def remark_on(found: Latencies, delivered: Measurement | None) -> str | None:
    """What to say where another runtime is faster than the one that the network is delivered for.

    It must be faster beyond doubt: the intervals of the two medians lie apart.
    """
    best = fastest(found)
    if best is None or delivered is None or best.runtime == delivered.runtime:
        return None
    if best.interval and delivered.interval and best.interval[1] >= delivered.interval[0]:
        return None
    return (
        f"{best.runtime} runs the delivered network in {best.value:.3g} {best.unit}, "
        f"{delivered.runtime}, which it is delivered for, in {delivered.value:.3g}"
    )


def require_file_runtime() -> None:
    """Refuse, before training, a machine on which the exported file could not be run.

    Raises:
        ValueError: If no runtime that reads ONNX files is installed.
    """
    if not set(DEPLOYABLE) & set(installed_runtimes()):
        raise ValueError(
            f"deployment needs one of {', '.join(DEPLOYABLE)}, got none installed; "
            "pip install 'lightning-cost[deploy]', or use the callbacks without a deployment"
        )


def _file_runtime(fastest: str | None) -> str:
    """The runtime to check the file on: the target's where it reads files."""
    installed = [name for name in DEPLOYABLE if name in installed_runtimes()]
    return fastest if fastest in installed else installed[0]
