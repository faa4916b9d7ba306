"""One rank alone; several are in tests/integration/test_ddp.py."""

import pytorch_lightning as pl
import torch

from lightning_cost.network.ranks import Ranks, sum_over_ranks


def test_a_process_without_others_talks_to_itself():
    ranks = Ranks.here()
    assert ranks == Ranks()
    assert ranks.is_first
    assert ranks.broadcast({"a": 1}) == {"a": 1}
    assert ranks.gather([2]) == [[2]]
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    assert sum_over_ranks(trainer, torch.device("cpu"), 1 / 3) == 1 / 3, "in double precision"
