"""A training step with fake quantisers beside the plain step, and how long the file then takes.

ResNet-20 on images of Fashion-MNIST's size, SGD with momentum, channels last, float32, one thread:
ours, torchao's PT2E and NNCF. Steps of all of them take turns; the figure is the median of CPU
time, and of the ratio to the plain step of the same round. Networks have random weights, which the
time does not depend on. ``convert_export_cpu_s`` is from the trained network to the file.
"""

import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from quantization_peers import PEERS
from results_file import ResultsFile, argument_parser
from torch import Tensor, nn

from lightning_cost.network.lineage import apply_change
from lightning_cost.quantization.calibrate import calibrate
from lightning_cost.quantization.plan import plan_quantization
from lightning_cost.quantization.schemes.registry import get_scheme
from lightning_cost.zoo.resnet import resnet20
from quantization import written_by_us

NAME = "quantization_step"
IMAGE = (1, 28, 28)
PLAIN = "float32"
SCHEMES: dict[str, Any] = {
    "int8": "int8",
    "int4": "int4",
    "power_of_two_2": "power_of_two_2",
    "flightnn": {"name": "flightnn", "mean_terms": 1.3},
}
NUM_WARMUP_STEPS = 2


def networks(width: int, images: Tensor) -> dict[str, nn.Module]:
    """The plain network and each method's copy of it, ready to train."""
    plain = resnet20(width=width, in_channels=IMAGE[0]).train()
    plain(images)  # batch norms that have seen data
    found: dict[str, nn.Module] = {PLAIN: plain}
    for name, scheme in SCHEMES.items():
        found[name] = copy.deepcopy(plain)
        apply_change(found[name], plan_quantization(plain, images[:2], get_scheme(scheme)))
        calibrate(found[name], [images])
    for name, peer in PEERS.items():
        found[name] = peer.prepare(plain, [images], True)
    for network in found.values():
        network.train()
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return found


def step_of(network: nn.Module, images: Tensor, labels: Tensor) -> Callable[[], None]:
    """One step of training."""
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)

    def step() -> None:
        loss = F.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def in_turn(steps: dict[str, Callable[[], None]], num_rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each step in each round, after a few that are not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(NUM_WARMUP_STEPS + num_rounds):
        for name, step in steps.items():
            start = time.process_time()
            step()
            seconds[name].append(time.process_time() - start)
    return {name: values[NUM_WARMUP_STEPS:] for name, values in seconds.items()}


def rows_of(width: int, batch_size: int, seed: int, num_rounds: int) -> list[dict[str, Any]]:
    """One row for each method."""
    torch.manual_seed(seed)
    images = torch.randn(batch_size, *IMAGE).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (batch_size,))
    trained = networks(width, images)
    seconds = in_turn(
        {name: step_of(network, images, labels) for name, network in trained.items()}, num_rounds
    )
    rows = []
    for name, values in seconds.items():
        ratios = [own / plain for own, plain in zip(values, seconds[PLAIN], strict=True)]
        rows.append(
            {
                "case": f"resnet20 width {width} batch {batch_size}",
                "method": name,
                "seed": seed,
                "step_cpu_ms": round(1e3 * statistics.median(values), 1),
                "slowdown": round(statistics.median(ratios), 3),
                "convert_export_cpu_s": round(file_seconds(name, trained[name], images[:1]), 1),
            }
        )
    return rows


def file_seconds(name: str, network: nn.Module, example: Tensor) -> float:
    """CPU seconds from the trained network to its file."""
    write = PEERS[name].write if name in PEERS else written_by_us
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        write(network, example.contiguous(), Path(folder) / "model")
        return time.process_time() - start


def main() -> None:
    parser = argument_parser(__doc__, seeds=(0, 1, 2), quick="one seed, five rounds, batch 32")
    parser.add_argument("--width", type=int, default=16)
    settings = parser.parse_args()
    torch.set_num_threads(1)
    seeds = settings.seeds[:1] if settings.quick else settings.seeds
    batch_size, num_rounds = (32, 5) if settings.quick else (128, 15)
    results = ResultsFile(NAME, quick=settings.quick)
    for seed in seeds:
        results.progress(f"width {settings.width}, seed {seed}")
        for row in rows_of(settings.width, batch_size, seed, num_rounds):
            results.add(row)
    results.save(_table(results.rows))


def _table(rows: list[dict[str, Any]]) -> list[str]:
    table = [f"{'method':18}{'step, ms':>10}{'slower':>9}{'(all seeds)':>20}{'file, s':>10}"]
    for method in dict.fromkeys(row["method"] for row in rows):
        of = [row for row in rows if row["method"] == method]
        step, slowdown, seconds = (
            statistics.median(row[name] for row in of)
            for name in ("step_cpu_ms", "slowdown", "convert_export_cpu_s")
        )
        each = " ".join(f"{row['slowdown']:.2f}" for row in of)
        table.append(f"{method:18}{step:>10.1f}{slowdown:>9.2f}{each:>20}{seconds:>10.1f}")
    return table


if __name__ == "__main__":
    main()
