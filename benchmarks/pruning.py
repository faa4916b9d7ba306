"""Accuracy after pruning and a short recovery: ours against uniform width and Torch-Pruning.

ResNet-20 of width 16 on Fashion-MNIST, trained once a seed for 8 epochs. Each method cuts a copy to
the same share of MACs, and each result then trains for 430 steps of 128 images with the same data,
optimizer and learning rate: SGD with Nesterov momentum, peak 0.02, a tenth of the steps up, half a
cosine down, bfloat16 where the processor multiplies it. The test images are read once, after that.

Ours is ``GlobalRankingPruning`` in ``Trainer.fit``, one-shot, as a user would have it; beside it
the same without distillation, and with neither search nor distillation: then it is uniform width
with the layers fitted again, and computes as much as a peer. What its search and its teacher
compute is reported, and the other methods train once more for as many steps as take the same
FLOPs. Peers are Torch-Pruning's, each with the ratio, found by bisection, that leaves the largest
network within the share of MACs.

Rows are saved as they come, one file a seed; what is there is not run again. ``--budget latency``
runs ``pruning_latency.py``; whether the search's loss predicts accuracy after recovery is asked by
``search_correlation.py``.
"""

import argparse
import copy
import json
import statistics
import sys
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
import torch_pruning
from results_file import FOLDER, ResultsFile, Rows, argument_parser
from torch import nn
from trained_base import BASE_EPOCHS, Base, accuracy_percent, base_of, fine_tuned

from lightning_cost.budget.model import ModelBudget
from lightning_cost.cost.macs import count_macs
from lightning_cost.cost.size import count_params
from lightning_cost.monitor.callback import CostMonitor
from lightning_cost.network.deploy import deployed_copy
from lightning_cost.pruning.callback import GlobalRankingPruning
from lightning_cost.pruning.ranking import GlobalRanking
from lightning_cost.pruning.saliency import group_saliency, quantiles
from lightning_cost.pruning.schedule import PruningSchedule
from lightning_cost.pruning.structure.groups import channel_groups
from lightning_cost.pruning.target.channels import ChannelRules
from lightning_cost.runtime.latency import measure_side_by_side
from lightning_cost.zoo.data import ImageData

NAME = "pruning"
RECOVERY_STEPS, RECOVERY_PEAK = 430, 0.02
LEVELS = (0.5, 0.25, 0.125)
NUM_RANKING_IMAGES = 512
"""Training images whose gradients Taylor's criterion takes."""
LEGR_STEPS = 400 * 200
"""Training steps of LeGR's search: 400 candidates of 200 steps each."""
RUNTIME = "openvino"
SAME_COMPUTE = ", as much compute as ours"


def peers() -> dict[str, tuple[Any, bool]]:
    """Torch-Pruning's criteria, and whether they rank over the whole network."""
    found = torch_pruning.importance
    return {
        "uniform L2": (found.GroupMagnitudeImportance(p=2), False),
        "global L2": (found.GroupMagnitudeImportance(p=2), True),
        "BN scale": (found.BNScaleImportance(), True),
        "FPGM": (found.FPGMImportance(), True),
        "LAMP": (found.LAMPImportance(p=2), True),
        "Taylor": (found.GroupTaylorImportance(), True),
        "random": (found.RandomImportance(), False),
    }


NO_SEARCH = "ours, no search, no distillation"
OURS = {
    "ours": {},
    "ours, no distillation": {"distillation": None},
    NO_SEARCH: {"distillation": None},
}


def trained(
    network: nn.Module,
    data: ImageData,
    *,
    steps: int,
    peak: float,
    callbacks: Sequence[pl.Callback] = (),
) -> tuple[nn.Module, CostMonitor]:
    """``network`` after ``steps`` steps with one arc of the learning rate, and what they took."""
    monitor = CostMonitor()
    network = fine_tuned(network, data, steps=steps, peak=peak, callbacks=[*callbacks, monitor])
    return network, monitor


def cut_by_peer(base: Base, method: str, level: float) -> nn.Module:
    """A copy cut by Torch-Pruning to the largest network within ``level`` of the MACs."""
    importance, is_global = peers()[method]
    low, high = 0.0, 1.0  # of the pruning ratio: too little, enough
    best = None
    for _ in range(10):
        ratio = (low + high) / 2
        torch.manual_seed(base.seed)
        network = copy.deepcopy(base.network)
        classifier = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
        pruner = torch_pruning.pruner.BasePruner(
            network,
            base.example,
            importance=importance,
            global_pruning=is_global,
            pruning_ratio=ratio,
            ignored_layers=classifier,
        )
        if method == "Taylor":
            images, labels = base.data.part("train").__getitems__(range(NUM_RANKING_IMAGES))
            nn.functional.cross_entropy(network(images), labels).backward()
        pruner.step()
        network.zero_grad()
        if count_macs(network, base.example).total <= level * base.macs:
            high, best = ratio, network
        else:
            low = ratio
    assert best is not None
    return best


def recovered(network: nn.Module, base: Base, steps: int) -> tuple[float, float]:
    """Test accuracy after ``steps`` steps, and their FLOPs."""
    pl.seed_everything(base.seed, verbose=False)
    network, monitor = trained(network, base.data, steps=steps, peak=RECOVERY_PEAK)
    return accuracy_percent(network, base.data.part("test")), monitor.update_spend().flops


def run_ours(
    base: Base, method: str, level: float, steps: int, *, ranking: GlobalRanking | None = None
) -> tuple[nn.Module, dict[str, Any]]:
    """Cut by a ranking that is given, or else searched for; or uniformly, without a search."""
    if method == NO_SEARCH:
        ranking = uniform_ranking(base)
    pl.seed_everything(base.seed, verbose=False)
    pruning = GlobalRankingPruning(
        ModelBudget(macs=f"{100 * level}%"),
        schedule=PruningSchedule(warmup_epochs=0, num_steps=1, recover_epochs=1),
        channels=ChannelRules(multiple=1),
        ranking=ranking,
        seed=base.seed,
        **OURS[method],
    )
    network, monitor = trained(
        copy.deepcopy(base.network),
        base.data,
        steps=steps,
        peak=RECOVERY_PEAK,
        callbacks=[pruning],
    )
    spend = monitor.update_spend()
    return network, {
        "test_accuracy_percent": accuracy_percent(network, base.data.part("test")),
        "search_flops": spend.search_flops,
        "recovery_flops": spend.train_flops,
    }


def uniform_ranking(base: Base) -> GlobalRanking:
    """By L2 within each group, the same share of every group at a time."""
    norms = group_saliency(base.network, channel_groups(base.network, base.example))
    return GlobalRanking.transformed(quantiles(norms))


def run_peer(base: Base, method: str, level: float, steps: int) -> tuple[nn.Module, dict[str, Any]]:
    network = cut_by_peer(base, method, level)
    accuracy, flops = recovered(network, base, steps)
    row = {"test_accuracy_percent": accuracy, "search_flops": 0, "recovery_flops": flops}
    return network, row


def size_columns(network: nn.Module, base: Base) -> dict[str, Any]:
    """What the network costs beside the dense one, its latency measured in turn with it."""
    pair = {
        name: deployed_copy(network.eval().to(memory_format=torch.contiguous_format), base.example)
        for name, network in (("dense", copy.deepcopy(base.network)), ("pruned", network))
    }
    found = measure_side_by_side(pair, base.example, runtimes=[RUNTIME], num_threads=1)
    latency_ms = {name: latencies.measured[RUNTIME].value for name, latencies in found.items()}
    return {
        "macs_ratio": count_macs(network, base.example).total / base.macs,
        "params": count_params(network),
        "latency_ms": latency_ms["pruned"],
        "latency_ratio": latency_ms["pruned"] / latency_ms["dense"],
    }


def run_level(base: Base, level: float, rows: Rows, settings: argparse.Namespace) -> None:
    case = f"{100 * level:g} % of MACs"
    steps = settings.steps

    def row_of(network: nn.Module, row: dict[str, Any], steps: int) -> dict[str, Any]:
        return {"seed": base.seed, **row, "steps": steps, **size_columns(network, base)}

    def run(name: str, num_steps: int) -> dict[str, Any]:
        method = run_ours if name in OURS else run_peer
        return row_of(*method(base, name, level, num_steps), num_steps)

    # ours first: what it computes with is what the others get too
    names = sorted(settings.methods, key=lambda name: name != "ours")
    found = {name: rows.get(case, name, lambda name=name: run(name, steps)) for name in names}
    if "ours" not in found:
        return
    used = found["ours"]["search_flops"] + found["ours"]["recovery_flops"]
    for name in names:
        own = found[name]
        if own["search_flops"] > own["recovery_flops"] / 10:
            continue  # it has its own use for more computation
        more = round(steps * (used - own["search_flops"]) / own["recovery_flops"])
        rows.get(case, f"{name}{SAME_COMPUTE}", lambda name=name, more=more: run(name, more))


def table_of(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Mean and standard deviation over the seeds, by case and method."""
    by_method: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        by_method.setdefault((row["case"], row["method"]), []).append(row)
    lines = [
        f"{'case':16}{'method':34}{'test accuracy, %':>18}{'in our compute, %':>19}"
        f"{'MACs':>8}{'params':>9}{'latency':>9}{'FLOPs':>9}"
    ]
    for (case, method), of in by_method.items():
        if method.endswith(SAME_COMPUTE):
            continue
        longer = by_method.get((case, f"{method}{SAME_COMPUTE}"))

        def mean(name: str, of: list[dict[str, Any]] = of) -> float:
            return statistics.fmean(row[name] for row in of)

        compute = mean("search_flops") + mean("recovery_flops")
        lines.append(
            f"{case:16}{method:34}{_accuracy(of):>18}{_accuracy(longer) if longer else '':>19}"
            f"{mean('macs_ratio'):>8.1%}{mean('params'):>9.0f}"
            f"{mean('latency_ratio'):>9.1%}{compute / 1e12:>7.1f} T"
        )
    return [*lines, *search_lines(by_method)]


def search_lines(by_method: dict[tuple[str, str], list[dict[str, Any]]]) -> list[str]:
    """What ours searched with, beside LeGR's training steps on networks of the same size."""
    lines = []
    for (case, method), rows in by_method.items():
        peer = by_method.get((case, "FPGM"))
        if method != "ours" or peer is None:
            continue
        step = statistics.fmean(row["recovery_flops"] / row["steps"] for row in peer)
        search = statistics.fmean(row["search_flops"] for row in rows)
        lines.append(
            f"{case}: search {search / 1e12:.1f} TFLOPs, "
            f"1/{LEGR_STEPS * step / search:.0f} of LeGR's {LEGR_STEPS:,} steps"
        )
    return lines


def _accuracy(rows: Sequence[dict[str, Any]]) -> str:
    values = [row["test_accuracy_percent"] for row in rows]
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):.2f} ± {deviation:.2f}"


def main() -> None:
    if "latency" in sys.argv:
        import pruning_latency

        sys.argv = [argument for argument in sys.argv if argument not in ("--budget", "latency")]
        pruning_latency.main()
        return
    parser = argument_parser(
        __doc__, seeds=(0, 1, 2), quick="one seed, one level, 2 epochs of base, 60 steps"
    )
    parser.add_argument("--budget", choices=("macs", "latency"), default="macs")
    parser.add_argument("--data", default="fashion_mnist", help="a name that ImageData knows")
    parser.add_argument("--levels", type=float, nargs="+", default=list(LEVELS))
    parser.add_argument("--methods", nargs="+", default=[*OURS, *peers()])
    settings = parser.parse_args()
    torch.set_num_threads(1)
    settings.steps = 60 if settings.quick else RECOVERY_STEPS
    epochs = 2 if settings.quick else BASE_EPOCHS
    if settings.quick:
        settings.seeds, settings.levels = settings.seeds[:1], [0.25]
    results = ResultsFile(NAME, quick=settings.quick)
    folder = FOLDER / NAME
    prefix = "quick_" if settings.quick else ""
    for seed in settings.seeds:
        base = base_of(settings.data, seed, epochs=epochs)
        rows = Rows(folder / f"{prefix}seed{seed}.jsonl", results)
        dense = rows.get("dense", "dense", lambda base=base: dense_row(base))
        results.progress(f"seed {seed}: dense {dense['test_accuracy_percent']:.2f} %")
        for level in settings.levels:
            run_level(base, level, rows, settings)
    saved = sorted(folder.glob(f"{prefix}seed*.jsonl"))
    for file in saved:
        for line in file.read_text().splitlines():
            results.add(json.loads(line))
    results.save(table_of(results.rows))


def dense_row(base: Base) -> dict[str, Any]:
    return {
        "seed": base.seed,
        "test_accuracy_percent": accuracy_percent(base.network, base.data.part("test")),
        "search_flops": 0,
        "recovery_flops": 0,
        "steps": 0,
        **size_columns(base.network, base),
    }


if __name__ == "__main__":
    main()
