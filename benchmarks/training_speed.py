"""Time of a training step before and after half of the MACs are cut, in the same fit.

ResNet-20 of width 32 on Fashion-MNIST, batch 128, float32, channels last, one thread. The cut is
``GlobalRankingPruning``'s own, between two epochs of one ``Trainer.fit``; kept channels are rounded
to multiples of 16, of 8, or not at all. Seconds are of CPU time: with one thread and no waiting,
those of a machine with nothing else to do. Nor is a machine equally fast all the time: a step of a
dense copy on a quarter of the batch, the yardstick, is timed in turn with every step of the fit,
and ``speedup`` is corrected by how its time changed between the epochs. ``raw_speedup`` is not.
"""

import copy
import statistics
import time
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from results_file import ResultsFile, argument_parser
from torch import Tensor
from typing_extensions import override

from lightning_cost.budget.model import ModelBudget
from lightning_cost.cost.macs import count_macs
from lightning_cost.pruning.callback import GlobalRankingPruning
from lightning_cost.pruning.schedule import PruningSchedule
from lightning_cost.pruning.search.evolution import EvolutionSearch
from lightning_cost.pruning.target.channels import ChannelRules
from lightning_cost.zoo.classifier import ImageClassifier, LearningPhase
from lightning_cost.zoo.data import ImageData
from lightning_cost.zoo.resnet import resnet20

NAME = "training_speed"
MULTIPLES = (16, 8, 1)
LEAST_SPEEDUP = 1.3
NUM_WARMUP_STEPS = 3
BATCH_SIZE, YARDSTICK_SIZE = 128, 32


class StepTimer(pl.Callback):
    """Times each step of the fit, and before it the yardstick."""

    def __init__(self) -> None:
        self.step_s: dict[int, list[float]] = {}
        self.yardstick_s: dict[int, list[float]] = {}
        self._started_at = 0.0

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._dense = copy.deepcopy(pl_module.network)
        self._optimizer = torch.optim.SGD(self._dense.parameters(), lr=1e-3, momentum=0.9)

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        images, labels = (tensor[:YARDSTICK_SIZE] for tensor in batch)
        started_at = time.process_time()
        self._dense_step(images, labels)
        self._started_at = time.process_time()
        epoch = trainer.current_epoch
        self.yardstick_s.setdefault(epoch, []).append(self._started_at - started_at)

    @override
    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        seconds = time.process_time() - self._started_at
        self.step_s.setdefault(trainer.current_epoch, []).append(seconds)

    def _dense_step(self, images: Tensor, labels: Tensor) -> None:
        images = images.contiguous(memory_format=torch.channels_last)
        loss = F.cross_entropy(self._dense(images), labels)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()


def training_steps(multiple: int, seed: int, num_steps: int) -> dict[str, Any]:
    """Median seconds of a step before and after the cut, and their ratio."""
    pl.seed_everything(seed, verbose=False)
    data = ImageData("fashion_mnist", batch_size=BATCH_SIZE, seed=seed)
    network = resnet20(width=32, in_channels=data.in_channels)
    example = torch.zeros(1, data.in_channels, *data.image_size)
    dense_macs = count_macs(network, example).total
    module = ImageClassifier(
        network, num_classes=data.num_classes, phases=[LearningPhase(epochs=2, peak=0.05)]
    )
    timer = StepTimer()
    pruning = GlobalRankingPruning(
        ModelBudget(macs="50%"),
        schedule=PruningSchedule(warmup_epochs=1, num_steps=1, recover_epochs=1),
        search=EvolutionSearch(num_candidates=3, calibration_samples=256, search_samples=256),
        channels=ChannelRules(multiple=multiple),
        seed=seed,
    )
    trainer = pl.Trainer(
        max_epochs=2,
        limit_train_batches=num_steps,
        limit_val_batches=0,
        accelerator="cpu",
        callbacks=[pruning, timer],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=data)
    before_s, after_s = (_median(timer.step_s[epoch]) for epoch in (0, 1))
    yardsticks = [_median(timer.yardstick_s[epoch]) for epoch in (0, 1)]
    speedup = before_s / after_s * yardsticks[1] / yardsticks[0]
    return {
        "case": f"multiple of {multiple}",
        "method": "GlobalRankingPruning",
        "seed": seed,
        "before_s": round(before_s, 4),
        "after_s": round(after_s, 4),
        "yardstick_before_s": round(yardsticks[0], 4),
        "yardstick_after_s": round(yardsticks[1], 4),
        "raw_speedup": round(before_s / after_s, 3),
        "speedup": round(speedup, 3),
        "macs_ratio": round(count_macs(network, example).total / dense_macs, 3),
        "widths": [after for _, after in pruning.widths.values()],
        "num_steps": num_steps - NUM_WARMUP_STEPS,
        "is_within_limits": speedup >= LEAST_SPEEDUP,
    }


def _median(seconds: list[float]) -> float:
    return statistics.median(seconds[NUM_WARMUP_STEPS:])


def main() -> None:
    """Print JSON lines and a table, and save both."""
    args = argument_parser(__doc__, seeds=[0, 1, 2], quick="one seed, few steps").parse_args()
    torch.set_num_threads(1)
    results = ResultsFile(NAME, quick=args.quick)
    for seed in args.seeds[:1] if args.quick else args.seeds:
        for multiple in MULTIPLES:
            results.progress(f"multiple of {multiple}, seed {seed}")
            results.add(training_steps(multiple, seed, num_steps=7 if args.quick else 13))
    results.save(_table(results.rows))


def _table(rows: list[dict[str, Any]]) -> list[str]:
    table = [
        f"{'channels kept':16}{'MACs kept':>10}{'before ms':>11}{'after ms':>10}"
        f"{'speedup':>9}{'lowest':>8}{'raw':>7}{'limit':>7}"
    ]
    for multiple in MULTIPLES:
        of_case = [row for row in rows if row["case"] == f"multiple of {multiple}"]
        middle = {
            name: statistics.median(row[name] for row in of_case)
            for name in ("macs_ratio", "before_s", "after_s", "speedup", "raw_speedup")
        }
        table.append(
            f"{f'multiple of {multiple}':16}{middle['macs_ratio']:>10.1%}"
            f"{middle['before_s'] * 1e3:>11.0f}{middle['after_s'] * 1e3:>10.0f}"
            f"{middle['speedup']:>9.2f}{min(row['speedup'] for row in of_case):>8.2f}"
            f"{middle['raw_speedup']:>7.2f}{LEAST_SPEEDUP:>7.2f}"
        )
    return table


if __name__ == "__main__":
    main()
