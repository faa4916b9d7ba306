"""A fit with a Trainer of one's own, which the same command goes on with: what the CLI cannot set.

python -m tests.gauntlet.library_fit FOLDER VARIANT
"""

import json
import sys
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging, ModelCheckpoint

from lightning_cost.network.checkpoint_file import WholeCheckpoints
from lightning_cost.network.lineage import lineage_of, lineage_to_list
from lightning_cost.network.whole_file import whole_file
from lightning_cost.pruning.schedule import PruningSchedule
from lightning_cost.recipe.first_checkpoint import FirstCheckpoint
from lightning_cost.recipe.run_dir import LAST_NAME, PREVIOUS_NAME, checkpoint_to_resume
from lightning_cost.zoo.data import ImageData
from tests.integration import setting

VARIANTS = ("ema", "adamw", "accumulated", "ema adamw bf16 accumulated")
END_NAME, CHECKPOINT_NAME = "end.json", "end.ckpt"


def main(folder: Path, variant: str) -> int:
    """Fit, from the beginning or from where an earlier process ended; write what came of it."""
    words = variant.split()
    schedule = PruningSchedule(warmup_epochs=2, num_steps=2, recover_epochs=2, shape="linear")
    callbacks = setting.callbacks(schedule=schedule, quantize_epochs=2)
    callbacks[-1].saves_interrupted = False
    module = setting.module()
    if "adamw" in words:
        module.configure_optimizers = lambda: torch.optim.AdamW(module.parameters(), 3e-3)
    averaging = [EMAWeightAveraging(decay=0.9)] if "ema" in words else []
    last = ModelCheckpoint(folder, filename=Path(LAST_NAME).stem, enable_version_counter=False)
    checkpoint = checkpoint_to_resume(folder)
    trainer = setting.trainer(
        folder,
        [*callbacks, *averaging, last, FirstCheckpoint(folder / LAST_NAME)],
        enable_checkpointing=True,
        plugins=[WholeCheckpoints({LAST_NAME: PREVIOUS_NAME})],
        precision="bf16-mixed" if "bf16" in words else "32-true",
        accumulate_grad_batches=2 if "accumulated" in words else 1,
    )
    data = ImageData("digits", batch_size=128, search_ratio=0.2, val_ratio=0.1)
    trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    trainer.save_checkpoint(folder / CHECKPOINT_NAME)
    with whole_file(folder / END_NAME) as file:
        file.write(json.dumps(_end(module, callbacks)).encode())
    return 0


def _end(module: pl.LightningModule, callbacks: list[pl.Callback]) -> dict:
    monitor, pruning, _, stopping = callbacks
    return {
        "lineage": lineage_to_list(lineage_of(module.network)),
        "ranking": pruning.ranking.to_dict(),
        "stop_reason": stopping.stop_reason,
        "history": [{**row, "seconds": None} for row in monitor.history],
        "spend": monitor.update_spend().to_dict(),
    }


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
