"""Latency of ResNet-20 in float32 and int8 on every runtime that runs ONNX files, one thread.

Methods: float32; int8 as the package places its fake quantisers; and int8 without those on the
convolutions in front of residual additions. Networks have random weights: latency does not depend
on them. Each session is timed by itself, in rounds over all of them; the figure is the median of
the rounds. A step of quantisation-aware training is timed against a float32 step.
"""

import copy
import statistics
import time
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from results_file import ResultsFile, argument_parser
from torch import Tensor, nn

from lightning_cost.network.deploy import deployed_copy
from lightning_cost.network.lineage import apply_change
from lightning_cost.quantization.calibrate import calibrate
from lightning_cost.quantization.plan import plan_quantization
from lightning_cost.runtime.contract import DEPLOYABLE, get_runtime
from lightning_cost.runtime.timing import time_calls
from lightning_cost.zoo.resnet import resnet20

NAME = "quantization_speed"
IMAGE = (1, 28, 28)
DENSE, INT8, FLOAT_ADDENDS = "float32", "int8", "int8, float addends"


def trained(width: int, seed: int) -> nn.Module:
    """A ResNet-20 whose batch norms have seen data."""
    torch.manual_seed(seed)
    network = resnet20(width=width, in_channels=IMAGE[0]).train()
    network(torch.randn(64, *IMAGE))
    return network


def prepared(network: nn.Module, *, has_float_addends: bool = False) -> nn.Module:
    """A copy with fake quantisers."""
    network, example = copy.deepcopy(network), torch.randn(8, *IMAGE)
    change = plan_quantization(network, example)
    apply_change(network, replace(change, outputs=()) if has_float_addends else change)
    calibrate(network, [example])
    return network


def latencies(width: int, batch_size: int, seed: int, num_rounds: int) -> list[dict[str, Any]]:
    """One row for each runtime and method."""
    network, example = trained(width, seed), torch.randn(batch_size, *IMAGE)
    networks = {
        DENSE: network,
        INT8: prepared(network),
        FLOAT_ADDENDS: prepared(network, has_float_addends=True),
    }
    sessions = {
        (name, method): get_runtime(name).load(
            deployed_copy(variant, example), example, num_threads=1
        )
        for name in DEPLOYABLE
        for method, variant in networks.items()
    }
    samples: dict[tuple[str, str], list[float]] = {key: [] for key in sessions}
    for _ in range(num_rounds):
        for key, session in sessions.items():
            samples[key].append(time_calls(session.bind(example)).median_ms)
    medians = {key: statistics.median(values) for key, values in samples.items()}
    fastest_dense = min(value for (_, method), value in medians.items() if method == DENSE)
    return [
        {
            "case": f"resnet20 width {width} batch {batch_size}",
            "runtime": name,
            "method": method,
            "seed": seed,
            "latency_ms": round(medians[name, method], 3),
            "rounds_range_ms": round(max(samples[name, method]) - min(samples[name, method]), 3),
            "speedup_of_runtime": round(medians[name, DENSE] / medians[name, method], 2),
            "speedup_of_fastest_dense": round(fastest_dense / medians[name, method], 2),
        }
        for name, method in sessions
    ]


def step_seconds(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Median seconds of a training step."""
    optimizer = torch.optim.SGD(network.train().parameters(), lr=0.01, momentum=0.9)
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        loss = F.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def training_step(width: int, seed: int) -> dict[str, Any]:
    """How much longer a step takes with fake quantisers, at batch 64."""
    network = trained(width, seed)
    images, labels = torch.randn(64, *IMAGE), torch.randint(0, 10, (64,))
    with_quantizers = prepared(network)
    float_s = step_seconds(network, images, labels)
    quantized_s = step_seconds(with_quantizers, images, labels)
    return {
        "case": f"training step width {width}",
        "runtime": "eager",
        "method": INT8,
        "seed": seed,
        "float32_s": round(float_s, 3),
        "fake_quantized_s": round(quantized_s, 3),
        "slowdown": round(quantized_s / float_s, 2),
    }


def main() -> None:
    """Print JSON lines and a table, and save both."""
    parser = argument_parser(__doc__, seeds=[0], quick="one seed, two widths, batch 1")
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 24, 16, 8])
    args = parser.parse_args()
    torch.set_num_threads(1)
    seeds = args.seeds[:1] if args.quick else args.seeds
    widths = [32, 16] if args.quick else args.widths
    results = ResultsFile(NAME, quick=args.quick)
    for seed in seeds:
        for width in widths:
            for batch_size in (1,) if args.quick else (1, 8):
                results.progress(f"width {width}, batch {batch_size}, seed {seed}")
                num_rounds = 2 if args.quick else 5
                for row in latencies(width, batch_size, seed, num_rounds=num_rounds):
                    results.add(row)
        results.progress(f"training step, seed {seed}")
        results.add(training_step(widths[0], seed))
    results.save(_table(results.rows))


def _table(rows: list[dict[str, Any]]) -> list[str]:
    table = [f"{'case':26}{'runtime':13}{'method':21}{'ms':>8}{'× own':>8}{'× fastest':>11}"]
    for row in rows:
        start = f"{row['case']:26}{row['runtime']:13}{row['method']:21}"
        if "latency_ms" in row:
            own, fastest = row["speedup_of_runtime"], row["speedup_of_fastest_dense"]
            table.append(f"{start}{row['latency_ms']:>8.3f}{own:>8.2f}{fastest:>11.2f}")
        else:
            table.append(f"{start}{row['fake_quantized_s'] * 1e3:>8.0f}{1 / row['slowdown']:>8.2f}")
    return table


if __name__ == "__main__":
    main()
