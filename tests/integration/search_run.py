"""One rank of a fit whose search the ranks divide; writes what it holds, or how it failed."""

import json
import sys
from pathlib import Path

import torch

from lightning_cost.network.lineage import lineage_of, lineage_to_list
from lightning_cost.pruning.batches import classification_loss
from lightning_cost.pruning.callback import GlobalRankingPruning
from lightning_cost.pruning.schedule import PruningSchedule
from tests.integration import setting


def main(folder: Path, num_ranks: int, fails_on: int) -> None:
    torch.set_num_threads(1)
    module, data = setting.module(), setting.data()
    num_judged = 0

    def loss(network, batch):
        nonlocal num_judged
        num_judged += 1
        if trainer.global_rank == fails_on and num_judged > 3:
            raise OSError("no such judge")
        return classification_loss(network, batch)

    pruning = GlobalRankingPruning(
        setting.ModelBudget(macs="50%"),
        schedule=PruningSchedule(warmup_epochs=0, num_steps=1, recover_epochs=1),
        search=setting.settings().search,
        channels=setting.settings().channels,
        loss=loss,
    )
    # else each rank has its own share of the data, and rank 0 another one than if it is alone
    ddp = {"devices": num_ranks, "strategy": "ddp"} if num_ranks > 1 else {}
    trainer = setting.trainer(folder, [pruning], max_epochs=1, use_distributed_sampler=False, **ddp)
    held = {}
    try:
        trainer.fit(module, datamodule=data)
    except Exception as error:
        held["error"] = f"{type(error).__name__}: {error}"
    held |= {
        "lineage": lineage_to_list(lineage_of(module.network)),
        "ranking": None if pruning.ranking is None else pruning.ranking.to_dict(),
        "trials": [] if pruning.planned is None else pruning.planned.trials,
        "search_flops": pruning.search_flops,
        "num_judged": num_judged,
    }
    (folder / f"rank_{trainer.global_rank}.json").write_text(json.dumps(held))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
