"""What ``CostMonitor`` takes from training throughput between measurements, on a step of 2 ms.

Two fits run in one process, one with the monitor and one without, and take turns after every step.
A step lasts from the start of a batch to the start of the next one, so that all of Lightning's work
in between counts; in CPU time, which with one thread and no waiting is the time of a machine with
nothing else to do. The figure of a pair of fits is the median difference between neighbouring
steps; it differs from pair to pair, as memory lies elsewhere in each, so the monitor's is the mean
over many pairs, with its standard error. Beside it stand what its own hooks take by the clock, and
what Lightning takes to call the hooks of a callback that does nothing, found in the same way. The
first steps are left out: FLOPs are counted in them, and the bar shows the cost for the first
batches of an epoch.
"""

import contextlib
import os
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.callbacks import TQDMProgressBar
from results_file import ResultsFile, argument_parser
from torch import Tensor, nn
from torch.utils.data import DataLoader
from typing_extensions import override

from lightning_cost.monitor.callback import NUM_BATCHES_SHOWN, CostMonitor

NAME = "monitor_overhead"
LARGEST_SHARE = 0.01
NUM_WARMUP_STEPS = NUM_BATCHES_SHOWN + 10
CASES = {"no progress bar": False, "progress bar": True}
METHODS: dict[str, Callable[[], pl.Callback]] = {
    "monitor": CostMonitor,
    "empty_callback": pl.Callback,
}


class SmallModule(pl.LightningModule):
    """Two hidden layers on random vectors, sized for a step of about 2 ms on one thread."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(256, 384), nn.ReLU(), nn.Linear(384, 384), nn.ReLU(), nn.Linear(384, 10)
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


class Baton:
    """Lets two threads run in turn: only the one that holds it does."""

    def __init__(self) -> None:
        self._turns = [threading.Semaphore(1), threading.Semaphore(0)]
        self._is_alone = False

    def take(self, runner: int) -> None:
        """Wait for the first turn."""
        self._turns[runner].acquire()

    def pass_on(self, runner: int) -> None:
        """Let the other one run until it passes the baton back."""
        self._turns[1 - runner].release()
        if not self._is_alone:
            self._turns[runner].acquire()

    def leave(self, runner: int) -> None:
        """Give the baton away for good."""
        self._is_alone = True
        self._turns[1 - runner].release()


class StepClock(pl.Callback):
    """Times the steps of one fit, and passes the baton before each."""

    def __init__(self, baton: Baton, runner: int) -> None:
        self.steps_s: list[float] = []
        self._baton = baton
        self._runner = runner
        self._started_at = 0.0

    @override
    def on_train_batch_start(self, *args: Any) -> None:
        self.steps_s.append(time.thread_time() - self._started_at)
        self._baton.pass_on(self._runner)
        self._started_at = time.thread_time()


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
    def on_before_optimizer_step(self, *args: Any) -> None:
        start = time.perf_counter()
        super().on_before_optimizer_step(*args)
        self.hooks_s[-1] += time.perf_counter() - start

    @override
    def on_train_batch_end(self, *args: Any) -> None:
        start = time.perf_counter()
        super().on_train_batch_end(*args)
        self.hooks_s[-1] += time.perf_counter() - start


def fit(clock: StepClock, callbacks: list[pl.Callback], *, has_bar: bool, num_steps: int) -> None:
    """Train for one epoch of ``num_steps`` steps."""
    bars: list[pl.Callback] = [TQDMProgressBar()] if has_bar else []
    batch = (torch.randn(64, 256), torch.randint(0, 10, (64,)))
    loader: DataLoader[Any] = DataLoader([batch] * num_steps, batch_size=None)
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        callbacks=[clock, *bars, *callbacks],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=has_bar,
        enable_model_summary=False,
    )
    trainer.fit(SmallModule(), loader)


def fit_in_turn(
    callbacks: Sequence[list[pl.Callback]], *, has_bar: bool, num_steps: int
) -> list[list[float]]:
    """Seconds of each step of two fits that take turns, one with each list of callbacks."""
    baton = Baton()
    clocks = [StepClock(baton, runner) for runner in (0, 1)]

    def run(runner: int) -> None:
        baton.take(runner)
        try:
            fit(clocks[runner], callbacks[runner], has_bar=has_bar, num_steps=num_steps)
        finally:
            baton.leave(runner)

    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stderr(nowhere),
        contextlib.redirect_stdout(nowhere),
        ThreadPoolExecutor(max_workers=2) as threads,
    ):
        for fitted in [threads.submit(run, runner) for runner in (0, 1)]:
            fitted.result()
    # the first entry is the time until the first step
    return [clock.steps_s[1 + NUM_WARMUP_STEPS :] for clock in clocks]


def overhead(case: str, seed: int, *, num_pairs: int, num_steps: int) -> dict[str, Any]:
    """The share of a step that a callback takes, from ``num_pairs`` pairs of fits."""
    pl.seed_everything(seed, verbose=False)
    has_bar = CASES[case]
    figures: dict[str, float] = {}
    without_s: list[float] = []
    for name, kind in METHODS.items():
        extra_us = []
        for pair in range(num_pairs):
            order = [True, False] if pair % 2 else [False, True]
            callbacks: list[list[pl.Callback]] = [[kind()] if has else [] for has in order]
            found = fit_in_turn(callbacks, has_bar=has_bar, num_steps=num_steps)
            steps_s = dict(zip(order, found, strict=True))
            differences_s = (a - b for a, b in zip(steps_s[True], steps_s[False], strict=True))
            extra_us.append(statistics.median(differences_s) * 1e6)
            without_s += steps_s[False]
        figures |= {
            f"{name}_us": round(statistics.mean(extra_us), 1),
            f"{name}_error_us": round(statistics.stdev(extra_us) / num_pairs**0.5, 1),
        }
    step_ms = statistics.median(without_s) * 1e3
    share = figures["monitor_us"] / 1e3 / step_ms
    timed = TimedMonitor()
    fit_in_turn([[timed], []], has_bar=has_bar, num_steps=num_steps)
    hooks_s = statistics.median(timed.hooks_s[NUM_WARMUP_STEPS:])
    return {
        "case": case,
        "method": "CostMonitor",
        "seed": seed,
        "step_ms": round(step_ms, 4),
        "monitor_ratio": round(share, 5),
        **figures,
        "hooks_us": round(hooks_s * 1e6, 1),
        "num_pairs": num_pairs,
        "num_steps": num_steps - NUM_WARMUP_STEPS,
        "is_within_limits": share <= LARGEST_SHARE,
    }


def main() -> None:
    """Print JSON lines and a table, and save both."""
    parser = argument_parser(__doc__, seeds=[0, 1, 2], quick="one seed, few pairs of short fits")
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = ResultsFile(NAME, quick=args.quick)
    num_pairs, num_steps = (4, 210) if args.quick else (24, 210)
    fit_in_turn([[CostMonitor()], []], has_bar=False, num_steps=num_steps)
    for seed in args.seeds[:1] if args.quick else args.seeds:
        for case in CASES:
            results.progress(f"{case}, seed {seed}")
            results.add(overhead(case, seed, num_pairs=num_pairs, num_steps=num_steps))
    results.save(_table(results.rows))


def _table(rows: list[dict[str, Any]]) -> list[str]:
    table = [
        f"{'case':16}{'seed':>5}{'step ms':>9}{'share':>8}{'limit':>7}{'monitor us':>16}"
        f"{'empty callback us':>19}{'own hooks us':>14}"
    ]
    for row in rows:
        monitor, empty = (
            f"{row[f'{name}_us']:.1f} ± {row[f'{name}_error_us']:.1f}" for name in METHODS
        )
        table.append(
            f"{row['case']:16}{row['seed']:>5}{row['step_ms']:>9.3f}{row['monitor_ratio']:>8.2%}"
            f"{LARGEST_SHARE:>7.0%}{monitor:>16}{empty:>19}{row['hooks_us']:>14.1f}"
        )
    return table


if __name__ == "__main__":
    main()
