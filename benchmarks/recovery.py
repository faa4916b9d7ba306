"""What distillation and a rewound learning rate buy after the cut, and what they cost.

ResNet-20 of width 16, one network for all methods: each resumes from the same checkpoint at the end
of the warm-up, is cut to 25 % of the MACs in two steps by ``GlobalRankingPruning`` with the same
search, and recovers. The warm-up's learning rate is one arc down to a hundredth of its peak. Then

- ``fine_tune``: it stays there, as with a schedule that is over;
- ``rewind``: the recovery repeats the rates of the last epochs of the warm-up;
- ``own_arc``: the recovery has a smaller arc of its own, as in the command line's recipe;
- ``own_arc_longer``: the same over as many epochs as take at most the FLOPs of distillation;

and the first three with distillation from the dense network (temperature 2, half of the loss). The
test part is read once for each method. ``--quick`` takes the digits.

Then the time of a training step with and without the teacher, in turn, on the dense network and on
one of half the width (about a quarter of the MACs), in CPU seconds of one thread.

Rows are saved as they come, one file a seed; what is there is not run again.
"""

import copy
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from results_file import FOLDER, ResultsFile, Rows, argument_parser
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from trained_base import FAST_PRECISION
from typing_extensions import override

from lightning_cost.budget.model import ModelBudget
from lightning_cost.cost.macs import count_macs
from lightning_cost.monitor.callback import CostMonitor
from lightning_cost.network.distillation import Distillation, distillation_loss, frozen
from lightning_cost.pruning.callback import GlobalRankingPruning
from lightning_cost.pruning.schedule import PruningSchedule
from lightning_cost.pruning.search.evolution import EvolutionSearch
from lightning_cost.pruning.target.channels import ChannelRules
from lightning_cost.zoo.classifier import ImageClassifier, LearningPhase, learning_rate_at
from lightning_cost.zoo.data import ImageData
from lightning_cost.zoo.resnet import resnet20

NAME = "recovery"
MACS_KEPT = "25%"
WARMUP_EPOCHS, RECOVER_EPOCHS, LONGER_EPOCHS = 8, 3, 7
PEAK, RECOVER_PEAK, LEAST_RATIO = 0.1, 0.05, 0.01
METHODS = {
    "fine_tune": {},
    "distillation": {"distil": True},
    "rewind": {"rewind": "last"},
    "rewind+distillation": {"rewind": "last", "distil": True},
    "own_arc": {"has_arc": True},
    "own_arc+distillation": {"has_arc": True, "distil": True},
    "own_arc_longer": {"has_arc": True, "recover_epochs": LONGER_EPOCHS},
}


class Classifier(ImageClassifier):
    """One arc for the warm-up, then its last rate for ever, or another arc."""

    def __init__(self, network: nn.Module, *, recover_epochs: int, has_arc: bool) -> None:
        phases = [LearningPhase(epochs=WARMUP_EPOCHS, peak=PEAK)]
        super().__init__(network, num_classes=10, phases=phases)
        self.arc = LearningPhase(epochs=recover_epochs + 1, peak=RECOVER_PEAK)
        self.has_arc = has_arc

    @override
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(
            self.parameters(), lr=1.0, momentum=0.9, nesterov=True, weight_decay=5e-4
        )
        steps_per_epoch = self.trainer.estimated_stepping_batches / self.trainer.max_epochs

        def rate(step: int) -> float:
            epoch = step / steps_per_epoch
            if self.has_arc and epoch >= WARMUP_EPOCHS:
                return learning_rate_at(epoch - WARMUP_EPOCHS, [self.arc])
            return max(learning_rate_at(epoch, self.phases), LEAST_RATIO * PEAK)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


class StopAfterWarmup(pl.Callback):
    """Leaves the checkpoint that every method goes on from."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch + 1 == WARMUP_EPOCHS:
            trainer.should_stop = True

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.save_checkpoint(self.path, weights_only=False)


def fit(
    data: str,
    seed: int,
    num_candidates: int,
    *,
    checkpoint: Path,
    is_base: bool = False,
    rewind: str = "none",
    distil: bool = False,
    has_arc: bool = False,
    recover_epochs: int = RECOVER_EPOCHS,
) -> dict[str, Any]:
    """Train the base, or go on from it; figures of the pruned network."""
    pl.seed_everything(seed, verbose=False)
    source = ImageData(data, seed=seed)
    network = resnet20(width=16, in_channels=1)
    module = Classifier(network, recover_epochs=recover_epochs, has_arc=has_arc)
    pruning = GlobalRankingPruning(
        ModelBudget(macs=MACS_KEPT),
        schedule=PruningSchedule(
            warmup_epochs=WARMUP_EPOCHS,
            num_steps=2,
            recover_epochs=recover_epochs,
            rewind="last" if is_base else rewind,
        ),
        search=EvolutionSearch(num_candidates=num_candidates),
        channels=ChannelRules(multiple=1),
        distillation=Distillation() if distil else None,
        seed=seed,
    )
    monitor = CostMonitor()
    callbacks = [monitor, pruning, *([StopAfterWarmup(checkpoint)] if is_base else [])]
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=pruning.schedule.end_epoch,
        callbacks=callbacks,
        precision=FAST_PRECISION,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
    )
    trainer.fit(
        module, datamodule=source, ckpt_path=None if is_base else checkpoint, weights_only=True
    )
    (figures,) = trainer.test(module, datamodule=source, verbose=False)
    return {
        "test_accuracy": figures["test/accuracy"],
        "macs": count_macs(module.network, torch.zeros(_shape(source))).total,
        "train_flops": monitor.meter.training.total,
    }


def step_seconds(student: nn.Module, teacher: nn.Module, side: int, num_steps: int) -> list[float]:
    """Median CPU time of a step without and with the teacher, taken in turn."""
    optimizer = torch.optim.SGD(student.parameters(), lr=1e-3, momentum=0.9)
    images, labels = torch.randn(128, 1, side, side), torch.randint(10, (128,))

    def step(loss_of: Callable[[Tensor], Tensor]) -> float:
        started_at = time.process_time()
        loss_of(student(images)).backward()
        optimizer.step()
        optimizer.zero_grad()
        return time.process_time() - started_at

    def plain(logits: Tensor) -> Tensor:
        return cross_entropy(logits, labels)

    def taught(logits: Tensor) -> Tensor:
        with torch.no_grad():
            soft = teacher(images)
        return 0.5 * plain(logits) + 0.5 * distillation_loss(logits, soft, temperature=2.0)

    times = [[step(plain), step(taught)] for _ in range(num_steps + 2)][2:]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def add_cost(results: ResultsFile, seed: int, num_steps: int) -> dict[int, float]:
    """Rows of what the teacher costs; the ratio of the step times by the student's width."""
    torch.manual_seed(seed)
    dense = resnet20(width=16, in_channels=1)
    teacher = frozen(copy.deepcopy(dense))
    held = sum(t.numel() * t.element_size() for t in teacher.state_dict().values())
    ratios = {}
    for width, student in ((16, dense), (8, resnet20(width=8, in_channels=1))):
        without, with_teacher = step_seconds(student.train(), teacher, 28, num_steps)
        ratios[width] = with_teacher / without
        results.add(
            {
                "case": f"resnet20, width {width}, 28x28, batch 128",
                "method": "step time",
                "seed": seed,
                "without_ms": 1000 * without,
                "with_teacher_ms": 1000 * with_teacher,
                "ratio": ratios[width],
                "teacher_bytes": held,
            }
        )
    return ratios


def main() -> None:
    parser = argument_parser(__doc__, seeds=(0, 1, 2), quick="one seed, on the digits")
    parser.add_argument("--data", default="fashion_mnist")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    is_quick = arguments.quick
    data = "digits" if is_quick else arguments.data
    results = ResultsFile(NAME, quick=is_quick)
    found: dict[str, list[dict[str, Any]]] = {}
    folder, prefix = FOLDER / NAME, "quick_" if is_quick else ""
    for seed in arguments.seeds[: 1 if is_quick else None]:
        rows = Rows(folder / f"{prefix}{data}_seed{seed}.jsonl", results)
        checkpoint = folder / "bases" / f"{prefix}{data}_seed{seed}.ckpt"
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        methods = {"dense": {"is_base": True}, **METHODS}
        for method, how in methods.items():
            row = rows.get(
                data,
                method,
                lambda seed=seed, how=how, checkpoint=checkpoint: {
                    "seed": seed,
                    **fit(data, seed, 8 if is_quick else 30, checkpoint=checkpoint, **how),
                },
            )
            results.add(row)
            found.setdefault(method, []).append(row)
    ratios = add_cost(results, 0, 10 if is_quick else 40)
    results.save([*_table(data, found), "", *_cost_lines(ratios)])


def _shape(source: ImageData) -> torch.Size:
    images, _ = next(iter(source.val_dataloader()))
    return images[:1].shape


def _table(data: str, rows: dict[str, list[dict[str, Any]]]) -> list[str]:
    lines = [f"{data}, {MACS_KEPT} of MACs, mean of {len(rows['dense'])} seeds"]
    lines.append(f"{'method':22} {'test accuracy':>16} {'MMACs':>7} {'training TFLOPs':>16}")
    for method, found in rows.items():
        accuracy = [100 * row["test_accuracy"] for row in found]
        spread = statistics.stdev(accuracy) if len(accuracy) > 1 else 0.0
        macs = statistics.mean(row["macs"] for row in found) / 1e6
        flops = statistics.mean(row["train_flops"] for row in found) / 1e12
        lines.append(
            f"{method:22} {statistics.mean(accuracy):9.2f} ± {spread:4.2f} "
            f"{macs:7.2f} {flops:16.3f}"
        )
    return lines


def _cost_lines(ratios: dict[int, float]) -> list[str]:
    return [
        f"a step of a student of width {width} with a teacher of width 16: {ratio:.2f} times"
        for width, ratio in ratios.items()
    ]


if __name__ == "__main__":
    main()
