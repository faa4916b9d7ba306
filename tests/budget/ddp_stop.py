"""Two ranks of which only the second runs out of time; each writes where and why it stopped."""

import json
import sys
from pathlib import Path

import torch

from lightning_cost.budget.callback import BudgetStopping
from lightning_cost.budget.model import ModelBudget
from lightning_cost.budget.training import TrainingBudget
from lightning_cost.monitor.callback import CostMonitor
from tests.monitor.halving import Classifier, Halve, loader, make_trainer


def main(folder: Path, kind: str) -> None:
    torch.manual_seed(0)

    def clock() -> float:
        return 100.0 if trainer.global_rank == 1 and trainer.global_step >= 3 else 0.0

    monitor = CostMonitor(clock=clock)
    if kind == "training":
        stopping = BudgetStopping(training=TrainingBudget(wall_clock_s=50))
    else:
        stopping = BudgetStopping(model=ModelBudget(macs="50%"))
    callbacks = [stopping, monitor, Halve(1)]
    trainer = make_trainer(folder, callbacks, devices=2, strategy="ddp", max_epochs=5)
    trainer.fit(Classifier(), loader())
    stopped = {
        "step": trainer.global_step,
        "reason": stopping.stop_reason,
        "macs": [row["cost"]["macs"]["value"] for row in monitor.history],
        "train_flops": monitor.update_spend().train_flops,
    }
    (folder / f"{kind}_{trainer.global_rank}.json").write_text(json.dumps(stopped))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
