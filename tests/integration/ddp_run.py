"""Two ranks through every phase; each writes what it holds at the end."""

import json
import sys
from pathlib import Path

import torch

from lightning_cost.network.lineage import lineage_of, lineage_to_list
from tests.integration import setting


def main(folder: Path, budget: str) -> None:
    torch.set_num_threads(1)
    module = setting.module()
    callbacks = setting.joint_callbacks() if budget == "joint" else setting.callbacks()
    trainer = setting.trainer(folder, callbacks, devices=2, strategy="ddp")
    trainer.fit(module, datamodule=setting.data())
    held = {
        "lineage": lineage_to_list(lineage_of(module.network)),
        "ranking": callbacks[1].ranking.to_dict(),
        "bits": callbacks[2].settled,
        "step": trainer.global_step,
        "reason": callbacks[-1].stop_reason,
        "weights": {
            name: float(value.double().sum()) for name, value in module.network.named_parameters()
        },
    }
    (folder / f"rank_{trainer.global_rank}.json").write_text(json.dumps(held))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
