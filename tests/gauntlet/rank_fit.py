"""One rank of a fit through every phase, in which something may happen to one of the ranks."""

import json
import os
import signal
import time
from pathlib import Path

import pytorch_lightning as pl
import torch

from lightning_cost.network.lineage import lineage_of, lineage_to_list
from lightning_cost.zoo.data import ImageData
from tests.gauntlet.read_only import read_only
from tests.integration import setting

NUM_EPOCHS = 6
MODES = ("alike", "own data", "slow", "dies in training", "dies in the search", "no disk")
SLOW_S = 0.05


def main(folder: Path, num_ranks: int, mode: str, victim: int) -> int:
    """Fit on this rank, and write what it holds at the end.

    Args:
        folder: Shared by the ranks.
        num_ranks: How many there are.
        mode: One of :data:`MODES`; all ranks read the same data but in ``"own data"``.
        victim: The rank that it happens to.
    """
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    is_victim = rank == victim
    callbacks = setting.callbacks(
        schedule=setting.PruningSchedule(warmup_epochs=1, num_steps=2, recover_epochs=2),
        quantize_epochs=1,
    )
    callbacks[-1].saves_interrupted = False
    if is_victim and mode == "no disk":
        callbacks[-1].checkpoint_dir = str(read_only(folder))
    if is_victim and mode == "dies in the search":
        callbacks[1].loss = _die
    trainer = setting.trainer(
        folder,
        [*callbacks, Happening(mode if is_victim else "nothing")],
        max_epochs=NUM_EPOCHS,
        devices=num_ranks,
        strategy="ddp" if num_ranks > 1 else "auto",
        use_distributed_sampler=mode == "own data",
    )
    module = setting.module()
    data = ImageData("digits", batch_size=128, search_ratio=0.2, val_ratio=0.1)
    trainer.fit(module, datamodule=data)
    _, pruning, _, stopping = callbacks
    held = {
        "lineage": lineage_to_list(lineage_of(module.network)),
        "ranking": pruning.ranking.to_dict(),
        "trials": [trial["loss"] for trial in pruning.planned.trials],
        "stop_reason": stopping.stop_reason,
        "step": trainer.global_step,
        "weights": [float(p.detach().double().sum()) for p in module.network.parameters()],
    }
    (folder / f"rank_{rank}.json").write_text(json.dumps(held))
    return 0


class Happening(pl.Callback):
    """What happens to the rank that it is given to.

    Args:
        mode: See :func:`main`.
    """

    def __init__(self, mode: str) -> None:
        self.mode = mode

    def on_train_batch_end(self, trainer, *_) -> None:
        if self.mode == "slow":
            time.sleep(SLOW_S)
        if self.mode == "dies in training" and trainer.current_epoch == 1:
            _die()


def _die(*_: object) -> torch.Tensor:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("dead")
