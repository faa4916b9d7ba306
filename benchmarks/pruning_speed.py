"""Seconds and memory of pruning ResNet-50, 101 and 152 and ViT-B/16, and widths priced per second.

The networks are written here, so that torchvision is not needed. Each figure is of a process of its
own; seconds are of CPU time: with one thread, those of a machine with nothing else to do. The
memory ratio is (network + growth of the peak resident size) / network; what the first forward pass
of any network takes (libraries, work space) is not part of the growth.
"""

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from pruning_zoo_networks import ViT
from results_file import ResultsFile, argument_parser
from torch import Tensor, nn

from lightning_cost.cost.resource import Resource
from lightning_cost.cost.size import size_bytes
from lightning_cost.network.lineage import apply_change
from lightning_cost.network.optimizer import swap_parameters
from lightning_cost.pruning.pricing.pricer import WidthPricer
from lightning_cost.pruning.ranking import GlobalRanking
from lightning_cost.pruning.saliency import group_saliency, normalised
from lightning_cost.pruning.structure.grouping import Grouping
from lightning_cost.pruning.structure.groups import channel_groups
from lightning_cost.pruning.structure.plan import Plan
from lightning_cost.pruning.structure.surgery import removal
from lightning_cost.pruning.target.channels import ChannelRules

NAME = "pruning_speed"
LIMIT_MEMORY_RATIO, LIMIT_WIDTHS_PER_SECOND = 2.0, 50_000
EXAMPLE = (1, 3, 224, 224)
T = TypeVar("T")


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut."""

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        out_channels = 4 * width
        self.body = nn.Sequential(
            *_conv_bn(in_channels, width, 1),
            nn.ReLU(inplace=True),
            *_conv_bn(width, width, 3, stride),
            nn.ReLU(inplace=True),
            *_conv_bn(width, out_channels, 1),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(*_conv_bn(in_channels, out_channels, 1, stride))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Features of ``x``."""
        y: Tensor = self.relu(self.body(x) + self.shortcut(x))
        return y


def resnet(*num_blocks: int) -> nn.Sequential:
    """A network with the layers of a ResNet with so many bottlenecks in its four stages.

    ResNet-50 is (3, 4, 6, 3): 25.6 M parameters, 4.1 G MACs at 224 x 224.
    """
    layers: list[nn.Module] = [*_conv_bn(3, 64, 7, 2), nn.ReLU(inplace=True)]
    layers.append(nn.MaxPool2d(3, 2, 1))
    channels = 64
    for stage, depth in enumerate(num_blocks):
        width = 64 * 2**stage
        for block in range(depth):
            layers.append(Bottleneck(channels, width, 2 if stage > 0 and block == 0 else 1))
            channels = 4 * width
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000)]
    return nn.Sequential(*layers)


def _conv_bn(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    padding = kernel // 2
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, bias=False)
    return [conv, nn.BatchNorm2d(out_channels)]


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet50": lambda: resnet(3, 4, 6, 3),
    "resnet101": lambda: resnet(3, 4, 23, 3),
    "resnet152": lambda: resnet(3, 8, 36, 3),
    "vit_b_16": ViT,
}
LIMIT_SECONDS = {"resnet50": 3.0, "vit_b_16": 5.0}


def half_plan(network: nn.Module, grouping: Grouping) -> Plan:
    """The plan in the middle of a ranking's path, widths in multiples of 8."""
    ranking = GlobalRanking.transformed(normalised(group_saliency(network, grouping)))
    rules = ChannelRules(multiple=8)
    path = ranking.path(
        {
            group.name: rules.floor(group.num_channels, 0.25, group.block)
            for group in grouping.groups
        },
        {group.name: rules.step_of(group.block) for group in grouping.groups},
    )
    return path.plan_at(len(path) // 2)


def prune(name: str, seed: int) -> dict[str, Any]:
    """Graph, plan, surgery and optimizer swap, each timed, and the memory of all of them."""
    torch.manual_seed(seed)
    example = torch.randn(EXAMPLE)
    network = NETWORKS[name]()
    num_bytes = size_bytes(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for parameter in network.parameters():
        optimizer.state[parameter] = {"momentum_buffer": torch.zeros_like(parameter)}
    with torch.no_grad():
        network.eval()(example)
    network.train()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    seconds: dict[str, float] = {}

    def timed(name: str, work: Callable[[], T]) -> T:
        start = time.process_time()
        result = work()
        seconds[name] = time.process_time() - start
        return result

    grouping = timed("graph", lambda: channel_groups(network, example))
    plan = timed("plan", lambda: half_plan(network, grouping))
    swaps = timed("surgery", lambda: apply_change(network, removal(grouping, plan)))
    timed("optimizer_swap", lambda: swap_parameters(optimizer, swaps))
    extra = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    total = sum(seconds.values())
    memory_ratio = 1 + extra / num_bytes
    return {
        "case": name,
        "num_layers": sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in network.modules()),
        **{f"{name}_s": round(value, 3) for name, value in seconds.items()},
        "total_s": round(total, 3),
        "memory_ratio": round(memory_ratio, 2),
        "num_groups": len(grouping.groups),
        "keep_ratio": round(plan.keep_ratio, 3),
        "is_within_limits": total <= LIMIT_SECONDS.get(name, math.inf)
        and memory_ratio <= LIMIT_MEMORY_RATIO,
    }


def price(seed: int) -> dict[str, Any]:
    """Width assignments priced in macs, flops, params and size_bytes per second."""
    torch.manual_seed(seed)
    example = torch.randn(EXAMPLE)
    network = NETWORKS["resnet50"]()
    grouping = channel_groups(network, example)
    start = time.process_time()
    pricer = WidthPricer.from_network(network, example, grouping)
    prepare_s = time.process_time() - start
    totals = list(grouping.num_channels.values())
    widths = np.random.default_rng(seed).integers(1, totals, (200_000, len(totals)), endpoint=True)
    start = time.process_time()
    costs = pricer.price(widths)
    per_second = len(widths) / (time.process_time() - start)
    assert len(costs[Resource.macs]) == len(widths)
    return {
        "case": "price",
        "prepare_s": round(prepare_s, 3),
        "widths_per_s": round(per_second),
        "is_within_limits": per_second >= LIMIT_WIDTHS_PER_SECOND,
    }


CASES: dict[str, Callable[[int], dict[str, Any]]] = {
    **{name: partial(prune, name) for name in NETWORKS},
    "price": price,
}


def main() -> None:
    """Run every case in a process of its own; print JSON lines and a table, and save both."""
    parser = argument_parser(__doc__, seeds=[0, 1, 2], quick="one seed")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        torch.set_num_threads(1)
        print(json.dumps({**CASES[args.case](args.seeds[0]), "seed": args.seeds[0]}))
        return
    results = ResultsFile(NAME, quick=args.quick)
    for seed in args.seeds[:1] if args.quick else args.seeds:
        for case in CASES:
            results.progress(f"{case}, seed {seed}")
            command = [sys.executable, __file__, "--case", case, "--seeds", str(seed)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            results.add({**json.loads(output), "method": "lightning_cost"})
    results.save(_table(results.rows))


def _table(rows: list[dict[str, Any]]) -> list[str]:
    by_case: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_case.setdefault(row["case"], []).append(row)
    table = [f"{'case':12}{'layers':>8}{'seconds':>10}{'limit':>8}{'per layer':>12}{'memory':>9}"]
    for name in NETWORKS:
        seconds = max(row["total_s"] for row in by_case[name])
        memory = max(row["memory_ratio"] for row in by_case[name])
        layers = by_case[name][0]["num_layers"]
        table.append(
            f"{name:12}{layers:>8}{seconds:>10.2f}{LIMIT_SECONDS.get(name, ''):>8}"
            f"{1000 * seconds / layers:>9.1f} ms{memory:>8.2f}x"
        )
    slowest = min(row["widths_per_s"] for row in by_case["price"])
    table.append(f"widths priced a second: {slowest:,} (wanted {LIMIT_WIDTHS_PER_SECOND:,})")
    return table


if __name__ == "__main__":
    main()
