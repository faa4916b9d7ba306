"""Wall clock to a good network within a latency budget: with and without pricing beforehand.

ResNets of several widths, depths and learning rates on 5,000 images of Fashion-MNIST, for a device
of which the budget lets about a fifth of the networks pass. One method is ``lightning-cost fit -m
hydra/sweeper=cost_optuna``; the other an Optuna study with the same sampler and seed that trains
whatever it asks for, by the same fit, and looks at the latency afterwards. ``speedup`` is the time
at which the second had found its best network within the budget, divided by the time at which the
first had one as good; ``speedup_of_study`` counts the whole of the second. Pricing is in the time.
"""

import contextlib
import io
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import torch
from results_file import FOLDER, ResultsFile, Rows, argument_parser

from lightning_cost.cli import main as command
from lightning_cost.hardware.device import Hardware
from lightning_cost.monitor.measure import measure
from lightning_cost.report.files import read_report
from lightning_cost.zoo.data import ImageData
from lightning_cost.zoo.resnet import ResNet

NAME = "constrained_sweep"
LEAST_SPEEDUP = 4.0
NUM_TRIALS = 30
WIDTHS, DEPTHS = range(4, 26, 4), range(1, 4)
LEARNING_RATES = (0.003, 0.3)
DEVICE, METRIC = "raspberry_pi_4", "val/accuracy"
FEASIBLE_RATIO = 0.2
FIXED = [
    f"hardware={DEVICE}",
    "budget=none",
    "model=resnet8",
    "model._target_=lightning_cost.zoo.resnet.ResNet",
    "compress=none",
    "data=fashion_mnist",
    # 5,000 of 60,000 images train, 3,000 decide
    "data.search_ratio=0.8667",
    "data.val_ratio=0.05",
    "trainer=quick",
]
SPACE = [
    f"model.width=range({WIDTHS.start},{WIDTHS.stop},{WIDTHS.step})",
    f"+model.blocks_per_stage=range({DEPTHS.start},{DEPTHS.stop})",
    f"trainer.learning_rate=tag(log, interval({LEARNING_RATES[0]},{LEARNING_RATES[1]}))",
]


def latency_limit_ms() -> tuple[float, float]:
    """A limit that about a fifth of the structures keep, and the share that does."""
    data = ImageData("fashion_mnist")
    hardware = Hardware.load(DEVICE)
    example = torch.zeros(1, data.in_channels, *data.image_size)
    latencies = sorted(
        measure(
            ResNet(depth, width=width, in_channels=data.in_channels),
            example,
            hardware=hardware,
            resources=["latency_ms"],
        )
        .popitem()[1]
        .value
        for width in WIDTHS
        for depth in DEPTHS
    )
    num_kept = round(FEASIBLE_RATIO * len(latencies))
    return (latencies[num_kept - 1] + latencies[num_kept]) / 2, num_kept / len(latencies)


def constrained(seed: int, limit_ms: float, num_trials: int, epochs: int) -> dict[str, Any]:
    """Seconds at which each trial of our sweep ended, and what it reached."""
    with tempfile.TemporaryDirectory() as folder:
        started, cpu = time.time(), time.process_time()
        words = [
            *_words(seed, limit_ms, epochs),
            *SPACE,
            "hydra/sweeper=cost_optuna",
            f"hydra.sweep.dir={folder}",
            f"hydra.sweeper.num_trials={num_trials}",
        ]
        with contextlib.redirect_stdout(io.StringIO()):
            code = command(["fit", "-m", *words])
        assert code == 0, "the sweep failed"
        cpu_s = time.process_time() - cpu
        storage = f"sqlite:///{folder}/study.db"
        trials = optuna.load_study(study_name="sweep", storage=storage).trials
        ended = [trial for trial in trials if not trial.user_attrs.get("violations")]
        history = [
            {
                "s": round(trial.datetime_complete.timestamp() - started, 1),
                "accuracy": trial.value,
                "is_feasible": _is_feasible(read_report(f"{folder}/{trial.number}")),
            }
            for trial in ended
        ]
    return _row(history, cpu_s) | {"num_priced": len(trials)}


def unconstrained(seed: int, limit_ms: float, num_trials: int, epochs: int) -> dict[str, Any]:
    """The same of an Optuna study that knows no budget."""
    history: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        started, cpu = time.time(), time.process_time()

        def objective(trial: optuna.Trial) -> float:
            run_dir = f"{folder}/{trial.number}"
            low, high = LEARNING_RATES
            width = trial.suggest_int("width", WIDTHS[0], WIDTHS[-1], step=WIDTHS.step)
            depth = trial.suggest_int("depth", DEPTHS[0], DEPTHS[-1])
            rate = trial.suggest_float("learning_rate", low, high, log=True)
            words = [
                *_words(seed, limit_ms, epochs),
                f"model.width={width}",
                f"+model.blocks_per_stage={depth}",
                f"trainer.learning_rate={rate!r}",
                f"run_dir={run_dir}",
            ]
            with contextlib.redirect_stdout(io.StringIO()):
                command(["fit", *words])
            report = read_report(run_dir)
            accuracy = float(report["final"]["metrics"][METRIC])
            history.append(
                {
                    "s": round(time.time() - started, 1),
                    "accuracy": accuracy,
                    "is_feasible": _is_feasible(report),
                }
            )
            return accuracy

        sampler = optuna.samplers.TPESampler(seed=seed)
        study = optuna.create_study(
            direction="maximize", sampler=sampler, storage=f"sqlite:///{folder}/plain.db"
        )
        study.optimize(objective, n_trials=num_trials)
        cpu_s = time.process_time() - cpu
    return _row(history, cpu_s) | {"num_priced": len(history)}


def compared(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """How much sooner ``ours`` had what ``theirs`` had in the end."""
    within = [entry for entry in theirs["history"] if entry["is_feasible"]]
    target = max((entry["accuracy"] for entry in within), default=None)
    reached = [] if target is None else _reached(ours, target)
    theirs_s = None if target is None else _reached(theirs, target)[0]
    ours_s = reached[0] if reached else None
    return {
        "target_accuracy": target,
        "ours_s": ours_s,
        "theirs_s": theirs_s,
        "speedup": theirs_s / ours_s if ours_s and theirs_s else None,
        "speedup_of_study": theirs["seconds"] / ours_s if ours_s else None,
        "infeasible_trained": ours["num_infeasible_trained"],
    }


def _reached(row: dict[str, Any], target: float) -> list[float]:
    return [
        entry["s"]
        for entry in row["history"]
        if entry["is_feasible"] and entry["accuracy"] >= target
    ]


def _words(seed: int, limit_ms: float, epochs: int) -> list[str]:
    return [
        *FIXED,
        f"seed={seed}",
        f"budget.latency_ms={limit_ms:.6g}",
        f"compress.schedule.warmup_epochs={epochs}",
    ]


def _is_feasible(report: dict[str, Any]) -> bool:
    return all(limit["kept"] for limit in report["budget"].values())


def _row(history: list[dict[str, Any]], cpu_s: float) -> dict[str, Any]:
    within = [entry["accuracy"] for entry in history if entry["is_feasible"]]
    return {
        "seconds": history[-1]["s"],
        "cpu_s": round(cpu_s, 1),
        "num_trained": len(history),
        "num_infeasible_trained": len(history) - len(within),
        "best_feasible_accuracy": max(within, default=None),
        "history": history,
    }


def main() -> None:
    """Print JSON lines and a table, and save both."""
    args = argument_parser(__doc__, seeds=[0, 1, 2], quick="one seed, 4 trials").parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    results = ResultsFile(NAME, quick=args.quick)
    num_trials, epochs = (4, 1) if args.quick else (NUM_TRIALS, 2)
    limit_ms, kept_ratio = latency_limit_ms()
    lines = [
        f"latency <= {limit_ms:.3g} ms on {DEVICE}, kept by {kept_ratio:.0%} of the structures; "
        f"{num_trials} trials",
        f"{'seed':>4}{'target':>9}{'ours s':>9}{'theirs s':>10}{'speedup':>9}{'of study':>10}"
        f"{'infeasible trained':>20}",
    ]
    speedups = []
    for seed in args.seeds[:1] if args.quick else args.seeds:
        folder = tempfile.mkdtemp() if args.quick else FOLDER / NAME
        rows = Rows(Path(folder) / f"seed{seed}.jsonl", results)
        both = [
            rows.get("fashion_mnist", method, partial(make, seed, limit_ms, num_trials, epochs))
            for method, make in (("cost_optuna", constrained), ("optuna", unconstrained))
        ]
        for row in both:
            results.add({**row, "seed": seed, "limit_ms": limit_ms})
        found = compared(both[0], both[1])
        results.add({"case": "fashion_mnist", "method": "compared", "seed": seed, **found})
        if found["speedup"] is not None:
            speedups.append(found["speedup"])
        lines.append(_line(seed, found))
    if speedups:
        lines.append(f"median speedup {statistics.median(speedups):.1f}, asked {LEAST_SPEEDUP}")
    results.save(lines)


def _line(seed: int, found: dict[str, Any]) -> str:
    cells = [
        f"{seed:>4}",
        *(
            f"{'none':>{width}}" if found[name] is None else f"{found[name]:>{width}.{digits}f}"
            for name, width, digits in (
                ("target_accuracy", 9, 4),
                ("ours_s", 9, 0),
                ("theirs_s", 10, 0),
                ("speedup", 9, 1),
                ("speedup_of_study", 10, 1),
            )
        ),
        f"{found['infeasible_trained']:>20}",
    ]
    return "".join(cells)


if __name__ == "__main__":
    main()
