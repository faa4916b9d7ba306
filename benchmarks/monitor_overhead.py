"""What ``CostMonitor`` takes from training throughput between measurements, on a step of 2 ms.

Short fits with the monitor and without it take turns in one process; which one comes first changes
from pair to pair. A step lasts from the start of a batch to the start of the next one, so that all
of Lightning's work in between counts; in CPU time, which with one thread and no waiting is the time
of a machine with nothing else to do. The share is the median over the pairs; beside it stands the
share of the step that is spent inside the monitor's own hooks, timed one by one.
"""

import contextlib
import os
import random
import statistics
import time
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.callbacks import TQDMProgressBar
from results_file import ResultsFile, argument_parser
from torch import Tensor, nn
from torch.utils.data import DataLoader
from typing_extensions import override

from lightning_cost.monitor.callback import CostMonitor

NAME = "monitor_overhead"
LARGEST_SHARE = 0.01
NUM_WARMUP_STEPS = 20
CASES = {"no progress bar": False, "progress bar": True}


class SmallModule(pl.LightningModule):
    """Two hidden layers on random vectors, sized for a step of about 2 ms on one thread."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(256, 320), nn.ReLU(), nn.Linear(320, 320), nn.ReLU(), nn.Linear(320, 10)
        )

    @override
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        features, labels = batch
        loss = F.cross_entropy(self.network(features), labels)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    @override
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)


class StepClock(pl.Callback):
    """Notes when each batch starts."""

    def __init__(self) -> None:
        self.starts_s: list[float] = []

    @override
    def on_train_batch_start(self, *args: Any) -> None:
        self.starts_s.append(time.process_time())

    @property
    def steps_s(self) -> list[float]:
        """Seconds of each step after the first ones."""
        pairs = zip(self.starts_s, self.starts_s[1:], strict=False)
        return [end - start for start, end in pairs][NUM_WARMUP_STEPS:]


class TimedMonitor(CostMonitor):
    """Times the monitor's hooks of each batch, by the clock that itself takes the least time."""

    def __init__(self) -> None:
        super().__init__()
        self.hooks_s: list[float] = []

    @override
    def on_train_batch_start(self, *args: Any) -> None:
        start = time.perf_counter()
        super().on_train_batch_start(*args)
        self.hooks_s.append(time.perf_counter() - start)

    @override
    def on_train_batch_end(self, *args: Any) -> None:
        start = time.perf_counter()
        super().on_train_batch_end(*args)
        self.hooks_s[-1] += time.perf_counter() - start


def fit(callbacks: list[pl.Callback], *, has_bar: bool, num_steps: int) -> list[float]:
    """Seconds of each step of one epoch."""
    clock = StepClock()
    bars: list[pl.Callback] = [TQDMProgressBar()] if has_bar else []
    batch = (torch.randn(64, 256), torch.randint(0, 10, (64,)))
    loader: DataLoader[Any] = DataLoader([batch] * num_steps, batch_size=None)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        trainer = pl.Trainer(
            max_epochs=1,
            accelerator="cpu",
            callbacks=[clock, *bars, *callbacks],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=has_bar,
            enable_model_summary=False,
        )
        with contextlib.redirect_stdout(nowhere):
            trainer.fit(SmallModule(), loader)
    return clock.steps_s


def overhead(case: str, seed: int, *, num_pairs: int, num_steps: int) -> dict[str, Any]:
    """The monitor's share of a step, from ``num_pairs`` pairs of fits."""
    pl.seed_everything(seed, verbose=False)
    order = random.Random(seed)
    has_bar = CASES[case]
    with_s: list[float] = []
    without_s: list[float] = []
    shares = []
    for _ in range(num_pairs):
        pair: dict[bool, list[float]] = {}
        for is_monitored in order.sample([True, False], 2):
            callbacks: list[pl.Callback] = [CostMonitor()] if is_monitored else []
            pair[is_monitored] = fit(callbacks, has_bar=has_bar, num_steps=num_steps)
        with_s += pair[True]
        without_s += pair[False]
        shares.append(1 - statistics.median(pair[False]) / statistics.median(pair[True]))
    timed = TimedMonitor()
    timed_steps_s = fit([timed], has_bar=has_bar, num_steps=num_steps)
    hooks_s = statistics.median(timed.hooks_s[NUM_WARMUP_STEPS:])
    share = 1 - statistics.median(without_s) / statistics.median(with_s)
    return {
        "case": case,
        "method": "CostMonitor",
        "seed": seed,
        "step_without_ms": round(statistics.median(without_s) * 1e3, 4),
        "step_with_ms": round(statistics.median(with_s) * 1e3, 4),
        "overhead_ratio": round(share, 5),
        "pairs_median_ratio": round(statistics.median(shares), 5),
        "pairs_lowest_ratio": round(min(shares), 5),
        "pairs_highest_ratio": round(max(shares), 5),
        "hooks_us": round(hooks_s * 1e6, 2),
        "hooks_ratio": round(hooks_s / statistics.median(timed_steps_s), 5),
        "num_pairs": num_pairs,
        "num_steps": len(with_s),
        "is_within_limits": statistics.median(shares) <= LARGEST_SHARE,
    }


def main() -> None:
    """Print JSON lines and a table, and save both."""
    parser = argument_parser(__doc__, seeds=[0, 1, 2], quick="one seed, few pairs of short fits")
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = ResultsFile(NAME, quick=args.quick)
    num_pairs, num_steps = (4, 150) if args.quick else (16, 150)
    fit([CostMonitor()], has_bar=False, num_steps=num_steps)
    for seed in args.seeds[:1] if args.quick else args.seeds:
        for case in CASES:
            results.progress(f"{case}, seed {seed}")
            results.add(overhead(case, seed, num_pairs=num_pairs, num_steps=num_steps))
    results.save(_table(results.rows))


def _table(rows: list[dict[str, Any]]) -> list[str]:
    table = [
        f"{'case':16}{'seed':>5}{'without ms':>12}{'with ms':>9}{'overhead':>10}"
        f"{'of pairs':>10}{'in hooks':>10}{'limit':>8}"
    ]
    table += [
        f"{row['case']:16}{row['seed']:>5}{row['step_without_ms']:>12.3f}"
        f"{row['step_with_ms']:>9.3f}{row['overhead_ratio']:>10.2%}"
        f"{row['pairs_median_ratio']:>10.2%}{row['hooks_ratio']:>10.2%}{LARGEST_SHARE:>8.0%}"
        for row in rows
    ]
    return table


if __name__ == "__main__":
    main()
