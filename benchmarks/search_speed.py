"""The search for a ranking: on two ranks, by two optimizers, and against LeGR's compute.

ResNet-20 of width 16, trained first (Fashion-MNIST; ``--data digits`` for a look). ``ranks``: the
same search by one process and by two, one thread each, in turn; candidates a second is what is
compared, the rankings must be equal. ``optimizers``: evolution and cmaes, and evolution without
early rejection, at an equal number of candidates. FLOPs are forward passes, and three for a
training step; beside them stand those of the 80,000 training steps of 128 that LeGR's search takes
(400 candidates, 200 steps each, on the network after its cut).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from results_file import ResultsFile, argument_parser

from lightning_cost.cost.resource import Resource
from lightning_cost.monitor.measure import measure
from lightning_cost.network.loader import collect_batches
from lightning_cost.network.ranks import Ranks
from lightning_cost.pruning.batches import SearchData, classification_loss
from lightning_cost.pruning.ranking import GlobalRanking
from lightning_cost.pruning.search.evolution import EvolutionSearch
from lightning_cost.pruning.search.loop import LearnedRanking
from lightning_cost.pruning.search.run import SearchRun
from lightning_cost.pruning.target.channels import ChannelRules
from lightning_cost.pruning.target.problem import PruningProblem
from lightning_cost.zoo.classifier import ImageClassifier, LearningPhase
from lightning_cost.zoo.data import ImageData
from lightning_cost.zoo.resnet import resnet20

NAME = "search_speed"
LEAST_SPEEDUP = 1.7
LEGR_STEPS, LEGR_BATCH, STEP_IN_FORWARDS = 80_000, 128, 3
METHODS: dict[str, dict[str, Any]] = {
    "evolution": {},
    "evolution, all judged in full": {"glance_ratio": 0.0},
    "cmaes": {"optimizer": "cmaes"},
}


def image_data(name: str, seed: int) -> ImageData:
    """The data; a small set gives a larger share to the search."""
    return ImageData(name, seed=seed, search_ratio=0.3 if name == "digits" else 0.05)


def trained(data: ImageData, num_epochs: int, seed: int) -> torch.nn.Module:
    """A dense network after ``num_epochs``."""
    pl.seed_everything(seed, verbose=False)
    network = resnet20(width=16, in_channels=data.in_channels, num_classes=data.num_classes)
    module = ImageClassifier(
        network, num_classes=data.num_classes, phases=[LearningPhase(epochs=num_epochs, peak=0.1)]
    )
    trainer = pl.Trainer(
        max_epochs=num_epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    trainer.fit(module, datamodule=data)
    return network


def problem_of(network: torch.nn.Module, data: ImageData, ratio: float) -> PruningProblem:
    """The network with a limit on its MACs."""
    example = torch.zeros(1, data.in_channels, *data.image_size)
    dense = measure(network, example)
    return PruningProblem.of(
        network,
        example,
        rules=ChannelRules(multiple=2),
        limits={Resource.macs: ratio * dense[Resource.macs].value},
        preview=lambda pruned: pruned,
        hardware=None,
        dense_cost=dense,
    )


def search_data(data: ImageData, settings: EvolutionSearch) -> SearchData:
    """The batches that candidates are judged on."""
    return SearchData(
        calibration=collect_batches(data.train_dataloader(), settings.calibration_samples),
        search=collect_batches(data.search_dataloader(), settings.search_samples),
    )


def learned_by(
    problem: PruningProblem, data: SearchData, settings: EvolutionSearch, seed: int, ranks: Ranks
) -> tuple[LearnedRanking | None, float]:
    """The ranking, on rank 0, and the seconds it took."""
    run = SearchRun(
        settings, classification_loss, seed=seed, to_device=lambda batch: batch, ranks=ranks
    )
    ranks.gather(None)  # all start together
    started_at = time.perf_counter()
    learned = None
    if ranks.is_first:
        with run:
            learned, _ = run.learn(
                problem,
                data,
                folders=[],
                may_go_on=lambda flops: True,
            )
    else:
        run.serve(problem.network)
    return learned, time.perf_counter() - started_at


def one_rank(folder: Path, args: argparse.Namespace) -> None:
    """What a process does that was started for ``ranks``; rank 0 writes what it found."""
    torch.set_num_threads(1)
    if args.num_ranks > 1:
        store = f"file://{folder}/store"
        dist.init_process_group(
            "gloo", init_method=store, rank=args.rank, world_size=args.num_ranks
        )
    torch.manual_seed(0)
    data = image_data(args.data, seed=0)
    network = resnet20(width=16, in_channels=data.in_channels, num_classes=data.num_classes)
    network.load_state_dict(torch.load(folder / "dense.pt", weights_only=True))
    settings = EvolutionSearch(num_candidates=args.candidates)
    problem = problem_of(network, data, args.macs)
    learned, seconds = learned_by(
        problem, search_data(data, settings), settings, seed=0, ranks=Ranks.here()
    )
    if learned is not None:
        learned.ranking.save(folder / f"ranking_{args.num_ranks}.json")
        found = {"seconds": seconds, "candidates": len(learned.trials), "loss": learned.fitness}
        (folder / f"found_{args.num_ranks}.json").write_text(json.dumps(found))
    if dist.is_initialized():
        dist.destroy_process_group()


def compare_ranks(results: ResultsFile, args: argparse.Namespace, dense: dict[str, Any]) -> None:
    """Candidates a second of one process and of two, in turn."""
    for repeat in range(1 if args.quick else 3):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            torch.save(dense, folder / "dense.pt")
            found = {}
            for num_ranks in (1, 2):
                results.progress(f"{num_ranks} rank(s), repeat {repeat}")
                processes = [_start(folder, args, rank, num_ranks) for rank in range(num_ranks)]
                if any(process.wait() for process in processes):
                    raise RuntimeError(f"a rank of {num_ranks} failed; see above")
                found[num_ranks] = json.loads((folder / f"found_{num_ranks}.json").read_text())
                (folder / "store").unlink(missing_ok=True)
            rankings = [GlobalRanking.load(folder / f"ranking_{n}.json") for n in (1, 2)]
        rates = {n: each["candidates"] / each["seconds"] for n, each in found.items()}
        results.add(
            {
                "case": "ranks",
                "method": "two against one",
                "seed": repeat,
                "candidates": found[1]["candidates"],
                "one_rank_per_s": round(rates[1], 3),
                "two_ranks_per_s": round(rates[2], 3),
                "speedup": round(rates[2] / rates[1], 3),
                "is_equal": rankings[0] == rankings[1],
            }
        )


def _start(
    folder: Path, args: argparse.Namespace, rank: int, num_ranks: int
) -> subprocess.Popen[bytes]:
    words = [sys.executable, __file__, "--data", args.data, "--candidates", str(args.candidates)]
    words += ["--macs", str(args.macs), "--folder", str(folder)]
    words += ["--rank", str(rank), "--num-ranks", str(num_ranks)]
    cores = sorted(os.sched_getaffinity(0))
    core = cores[rank % len(cores)]
    return subprocess.Popen(["taskset", "-c", str(core), *words], stdout=subprocess.DEVNULL)


def compare_optimizers(
    results: ResultsFile, args: argparse.Namespace, seed: int, network: torch.nn.Module
) -> None:
    """What each method finds, and what it computes for that."""
    data = image_data(args.data, seed)
    problem = problem_of(network, data, args.macs)
    for method, changes in METHODS.items():
        results.progress(f"{method}, seed {seed}")
        settings = EvolutionSearch(num_candidates=args.candidates, **changes)
        learned, seconds = learned_by(problem, search_data(data, settings), settings, seed, Ranks())
        assert learned is not None
        legr = LEGR_STEPS * LEGR_BATCH * STEP_IN_FORWARDS
        legr_flops = legr * args.macs * problem.dense_cost[Resource.flops].value
        results.add(
            {
                "case": "optimizers",
                "method": method,
                "seed": seed,
                "candidates": len(learned.trials),
                "rejected": sum(trial.is_rejected for trial in learned.trials),
                "loss_best_plain": round(min(learned.plain.values()), 5),
                "loss_best": round(learned.fitness, 5),
                "search_flops": learned.flops,
                "legr_flops": legr_flops,
                "flops_ratio": round(learned.flops / legr_flops, 5),
                "seconds": round(seconds, 2),
            }
        )


def main() -> None:
    """Print JSON lines and a table, and save both."""
    parser = argument_parser(__doc__, seeds=[0, 1, 2], quick="digits, one seed, few candidates")
    parser.add_argument("--data", default="fashion_mnist")
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--macs", type=float, default=0.25, help="target, share of the dense MACs")
    parser.add_argument("--cases", nargs="+", default=["ranks", "optimizers"])
    for name in ("--folder", "--rank", "--num-ranks"):
        parser.add_argument(name, help=argparse.SUPPRESS, type=Path if name == "--folder" else int)
    args = parser.parse_args()
    if args.folder is not None:
        one_rank(args.folder, args)
        return
    if args.quick:
        args.data, args.candidates, args.seeds = "digits", 30, args.seeds[:1]
    torch.set_num_threads(1)
    results = ResultsFile(NAME, quick=args.quick)
    for place, seed in enumerate(args.seeds):
        results.progress(f"training, seed {seed}")
        data = image_data(args.data, seed)
        network = trained(data, num_epochs=10 if args.data == "digits" else 2, seed=seed)
        if "optimizers" in args.cases:
            compare_optimizers(results, args, seed, network)
        if "ranks" in args.cases and place == 0:
            compare_ranks(results, args, network.state_dict())
    results.save(_table(results.rows))


def _table(rows: list[dict[str, Any]]) -> list[str]:
    table = []
    ranks = [row for row in rows if row["case"] == "ranks"]
    if ranks:
        table.append(f"{'two ranks':32}{'one /s':>9}{'two /s':>9}{'speedup':>9}{'wanted':>8}")
        table += [
            f"{'same ranking' if row['is_equal'] else 'ANOTHER RANKING':32}"
            f"{row['one_rank_per_s']:>9.2f}{row['two_ranks_per_s']:>9.2f}"
            f"{row['speedup']:>9.2f}{LEAST_SPEEDUP:>8.2f}"
            for row in ranks
        ]
    optimizers = [row for row in rows if row["case"] == "optimizers"]
    if optimizers:
        table.append(
            f"{'optimizer':32}{'seeds':>6}{'candidates':>11}{'rejected':>9}{'best plain':>11}"
            f"{'best':>8}{'FLOPs':>10}{'LeGR’s':>10}{'of it':>8}{'s':>7}"
        )
    for method in dict.fromkeys(row["method"] for row in optimizers):
        of_method = [row for row in optimizers if row["method"] == method]

        def mean(name: str, of_method: list[dict[str, Any]] = of_method) -> float:
            return statistics.mean(row[name] for row in of_method)

        table.append(
            f"{method:32}{len(of_method):>6}{mean('candidates'):>11.0f}{mean('rejected'):>9.1f}"
            f"{mean('loss_best_plain'):>11.4f}{mean('loss_best'):>8.4f}"
            f"{mean('search_flops'):>10.2e}{mean('legr_flops'):>10.2e}"
            f"{mean('flops_ratio'):>8.3%}{mean('seconds'):>7.0f}"
        )
    return table


if __name__ == "__main__":
    main()
