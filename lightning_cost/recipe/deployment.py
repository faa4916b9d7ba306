"""From a trained network to a file that a runtime has run: export, parity, accuracy, latency."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from lightning_cost.cost.forward import Example
from lightning_cost.cost.measurement import Cost
from lightning_cost.cost.resource import Resource
from lightning_cost.hardware.device import Hardware
from lightning_cost.monitor.measure import measure
from lightning_cost.network.deploy import deployed_copy
from lightning_cost.runtime.contract import DEPLOYABLE, Session, installed_runtimes, open_file
from lightning_cost.runtime.latency import Latencies, measure_latencies
from lightning_cost.runtime.onnx_file import write_onnx
from lightning_cost.runtime.parity import Parity, check_parity


def export(network: nn.Module, path: str | Path, example: Example, runtime: str = "onnx") -> Path:
    """Write the deployed form of ``network`` to a file that runtimes read.

    Batch norms are folded, fake quantisers become quantise/dequantise operators. ``network`` is
    left as it is.

    Args:
        network: Trained, dense or compressed.
        path: The file to write.
        example: What one forward pass takes; the batch axis stays dynamic.
        runtime: The file's format; ONNX is the one that ONNX Runtime and OpenVINO both read.

    Raises:
        ValueError: If ``runtime`` names no format that can be written.
    """
    if runtime not in ("onnx", *DEPLOYABLE):
        known = ", ".join(("onnx", *DEPLOYABLE))
        raise ValueError(f"runtime must be one of {known}, got {runtime!r}; all of them read ONNX")
    return write_onnx(deployed_copy(network, example), example, Path(path))


PARITY_SAMPLES = 1024


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
    evaluation: Mapping[str, Sequence[tuple[Tensor, Tensor]]],
    is_quantized: bool,
) -> Delivery:
    """Export ``network`` and take every figure from the file, as a runtime runs it.

    Args:
        network: Trained; left as it is.
        path: The ONNX file to write.
        hardware: The target.
        evaluation: Batches of real images and labels, by the name of the metric; those of the
            first metric also serve the parity check.
        is_quantized: Whether parity is judged by equal predictions instead of equal values, as
            runtimes round integers differently.
    """
    images = _images_of(next(iter(evaluation.values())))
    example = images[:1]
    deployed = deployed_copy(network, example)
    write_onnx(deployed, example, path)
    cost = measure(network, example, hardware=hardware)
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


def latency_by_runtime(network: nn.Module, example: Example, hardware: Hardware) -> Latencies:
    """Latency of ``network``, as deployed, on every runtime installed here; empty if not local."""
    return measure_latencies(
        deployed_copy(network, example),
        example,
        runtimes=installed_runtimes() if hardware.is_local else [],
        num_threads=hardware.num_threads,
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
