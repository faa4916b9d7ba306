"""Where runs with a budget in measured latency end: between 95 and 100 % of the tightest limit?

ResNet-20 of width 32 on Fashion-MNIST, float32, batch 1, one thread. Each run is a real fit with
``GlobalRankingPruning``, shortened to a few training steps: what is asked is the latency, not the
accuracy, which depends on neither. Limits are percentages of the dense latency, on each runtime;
one budget limits MACs, latency and size at once. Widths are proposed by the latency tables of
``latency_predictor.py`` where they lie beside its results; ``--no-tables`` leaves them out. After
the fit, dense and pruned network are exported anew, loaded nine times and timed in turn; ``fill``
is the median ratio over the limit, of the tightest one.
"""

import copy
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from results_file import FOLDER, ResultsFile, argument_parser
from torch import nn

from lightning_cost.budget.model import ModelBudget
from lightning_cost.cost.measurement import Measurement
from lightning_cost.hardware.device import Hardware
from lightning_cost.monitor.measure import measure
from lightning_cost.network.deploy import deployed_copy
from lightning_cost.pruning.callback import GlobalRankingPruning
from lightning_cost.pruning.schedule import PruningSchedule
from lightning_cost.pruning.search.evolution import EvolutionSearch
from lightning_cost.runtime.latency import InTurn
from lightning_cost.runtime.median import median_interval
from lightning_cost.zoo.classifier import ImageClassifier, LearningPhase
from lightning_cost.zoo.data import ImageData
from lightning_cost.zoo.resnet import resnet20

NAME = "pruning_latency"
RUNTIMES = ("openvino", "onnxruntime")
BUDGETS: dict[str, dict[str, str]] = {
    "70 %": {"latency_ms": "70%"},
    "50 %": {"latency_ms": "50%"},
    "35 %": {"latency_ms": "35%"},
    "combined": {"macs": "45%", "latency_ms": "55%", "size_bytes": "40%"},
}
WIDTH, BATCH_SIZE, NUM_TRAIN_STEPS = 32, 64, 3
NUM_READINGS = 9
FULL = (0.95, 1.0)


def run(
    runtime: str, budget_name: str, seed: int, *, data: ImageData, tables: Path | None
) -> dict[str, Any]:
    """One fit, and what its network takes afterwards."""
    pl.seed_everything(seed, verbose=False)
    limits = BUDGETS[budget_name]
    table = _table(runtime, tables)
    hardware = Hardware(runtime=runtime, latency_table=table)
    network = resnet20(width=WIDTH, in_channels=data.in_channels)
    dense = copy.deepcopy(network)
    module = ImageClassifier(
        network, num_classes=data.num_classes, phases=[LearningPhase(epochs=3, peak=0.02)]
    )
    pruning = GlobalRankingPruning(
        ModelBudget(**limits),
        hardware=hardware,
        schedule=PruningSchedule(warmup_epochs=1, num_steps=2, recover_epochs=1),
        search=EvolutionSearch(num_candidates=4, calibration_samples=64, search_samples=64),
        seed=seed,
    )
    trainer = pl.Trainer(
        max_epochs=3,
        limit_train_batches=NUM_TRAIN_STEPS,
        limit_val_batches=0,
        accelerator="cpu",
        callbacks=[pruning],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    start = time.perf_counter()
    trainer.fit(module, datamodule=data)
    seconds = time.perf_counter() - start
    example = torch.zeros(1, data.in_channels, *data.image_size)
    fills, facts = _fills(dense, network, example, hardware, limits)
    fill = max(statistics.median(values) for values in fills.values())
    intervals = [median_interval(values) or (values[0], values[0]) for values in fills.values()]
    return {
        "case": f"{runtime} {budget_name}",
        "method": "GlobalRankingPruning" + ("" if table is None else ", latency table"),
        "seed": seed,
        "fill_ratio": round(fill, 4),
        "fill_interval": [round(max(ends), 4) for ends in zip(*intervals, strict=True)],
        "fill_by_resource": {name: round(statistics.median(v), 4) for name, v in fills.items()},
        **facts,
        "widths": [after for _, after in pruning.widths.values()],
        "fit_s": round(seconds, 1),
        "is_within_limits": FULL[0] <= fill <= FULL[1],
    }


def _table(runtime: str, tables: Path | None) -> str | None:
    if tables is None:
        return None
    path = tables / f"table_resnet20_float32_{runtime}_seed0.json"
    return str(path) if path.exists() else None


def _fills(
    dense: nn.Module,
    pruned: nn.Module,
    example: torch.Tensor,
    hardware: Hardware,
    limits: dict[str, str],
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Cost / limit by resource, of latency as often as it was read; and what else is told."""
    networks = {"dense": dense, "pruned": pruned}
    shares = {name: float(limit.rstrip("%")) / 100 for name, limit in limits.items()}
    counted = {
        name: measure(network, example, resources=["macs", "size_bytes"])
        for name, network in networks.items()
    }
    ratios = {
        str(resource): counted["pruned"][resource].value / counted["dense"][resource].value
        for resource in counted["dense"]
    }
    fills = {name: [ratios[name] / share] for name, share in shares.items() if name in ratios}
    times: dict[str, list[float]] = {name: [] for name in networks}
    with InTurn(example, num_threads=1) as turns:
        for name, network in networks.items():
            turns.add(name, deployed_copy(network, example))
        pairs = [(name, str(hardware.runtime)) for name in networks]
        for _ in range(NUM_READINGS):
            for (name, _), latency in turns.read(pairs).items():
                assert isinstance(latency, Measurement), latency
                times[name].append(latency.value)
    latency_ratios = [after / before for before, after in zip(*times.values(), strict=True)]
    fills["latency_ms"] = [ratio / shares["latency_ms"] for ratio in latency_ratios]
    facts = {
        "latency_ratio": round(statistics.median(latency_ratios), 4),
        "latency_ratio_spread": round(statistics.pstdev(latency_ratios), 4),
        "dense_ms": round(statistics.median(times["dense"]), 4),
        "pruned_ms": round(statistics.median(times["pruned"]), 4),
        **{f"{name}_ratio": round(ratio, 4) for name, ratio in ratios.items()},
    }
    return fills, facts


def rows(
    seeds: Sequence[int], *, runtimes: Sequence[str] = RUNTIMES, with_tables: bool = True
) -> Iterator[dict[str, Any]]:
    """One row for each run."""
    data = ImageData("fashion_mnist", batch_size=BATCH_SIZE, seed=0)
    tables = FOLDER / "latency_predictor" if with_tables else None
    for seed in seeds:
        for budget_name in BUDGETS:
            for runtime in runtimes:
                yield run(runtime, budget_name, seed, data=data, tables=tables)


def table_of(results: Sequence[dict[str, Any]]) -> list[str]:
    """The rows for people to read."""
    lines = [
        f"{'case':22}{'seed':>5}{'fill':>9}{'95 % interval':>18}{'latency':>9}{'MACs':>8}"
        f"{'size':>8}{'ms':>8}  {'widths':12}"
    ]
    for row in results:
        low, high = row["fill_interval"]
        lines.append(
            f"{row['case']:22}{row['seed']:>5}{row['fill_ratio']:>9.1%}"
            f"{f'{low:.1%} – {high:.1%}':>18}{row['latency_ratio']:>9.1%}"
            f"{row['macs_ratio']:>8.1%}{row['size_bytes_ratio']:>8.1%}{row['pruned_ms']:>8.3f}"
            f"  {json.dumps(row['widths'])}"
        )
    within = sum(row["is_within_limits"] for row in results)
    return [*lines, f"{within} of {len(results)} runs end between 95 and 100 % of their limit"]


def main() -> None:
    """Print JSON lines and a table, and save both."""
    parser = argument_parser(__doc__, seeds=[0, 1, 2], quick="one seed, OpenVINO alone")
    parser.add_argument("--no-tables", action="store_true", help="measure without latency tables")
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = ResultsFile(NAME, quick=args.quick)
    found = rows(
        args.seeds[:1] if args.quick else args.seeds,
        runtimes=RUNTIMES[:1] if args.quick else RUNTIMES,
        with_tables=not args.no_tables,
    )
    try:
        for row in found:
            results.progress(f"{row['case']}, seed {row['seed']}: fill {row['fill_ratio']:.1%}")
            results.add(row)
    finally:  # an interrupted run keeps what it has
        results.save(table_of(results.rows))


if __name__ == "__main__":
    main()
