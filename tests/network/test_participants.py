"""What callbacks of one Trainer see of each other."""

import pytorch_lightning as pl
import torch
from torch import nn

from lightning_cost.network.participants import preview_of, structural_others

EXAMPLE = torch.zeros(1, 2)


class Changing(pl.Callback):
    phase, is_finished = None, True

    def __init__(self, word):
        self.word = word

    def preview(self, network, example):
        assert example is EXAMPLE
        return nn.Sequential(network, nn.Linear(2, 2, bias=False)).requires_grad_(self.word)


def trainer_of(*callbacks):
    return pl.Trainer(
        accelerator="cpu",
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def test_others_are_those_that_change_the_network_in_their_order():
    first, own, last = Changing(True), Changing(True), Changing(False)
    trainer = trainer_of(first, pl.Callback(), own, last)
    assert structural_others(trainer, own) == [first, last]


def test_previews_follow_each_other():
    network = nn.Identity()
    assert preview_of([], EXAMPLE)(network) is network
    made = preview_of(iter([Changing(True), Changing(False)]), EXAMPLE)
    for _ in range(2):
        found = made(network)
        assert found[0][0] is network
        assert [weight.requires_grad for weight in found.parameters()] == [False, False]
