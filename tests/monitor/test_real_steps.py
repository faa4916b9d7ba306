"""What the user's own step computes is what counts, in whatever way it is written."""

import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn

from lightning_cost.cost.training_flops import count_training_flops
from lightning_cost.monitor.callback import CostMonitor
from lightning_cost.monitor.step_flops import PER_SAMPLE
from tests.monitor.halving import (
    BATCH_SIZE,
    NUM_INPUTS,
    NUM_SAMPLES,
    Classifier,
    Halve,
    loader,
    make_trainer,
)

NETWORK = count_training_flops(Classifier().network, torch.zeros(1, NUM_INPUTS))
FORWARD = 2 * (NUM_INPUTS * 8 + 8 * 2)
MID_EPOCH = "ignore:You're resuming from a checkpoint that ended before the epoch ended"


def spend_of(folder, module, *, callbacks=(), validation=None, ckpt_path=None, **options):
    monitor = CostMonitor()
    trainer = make_trainer(folder, [monitor, *callbacks], **({"max_epochs": 2} | options))
    trainer.fit(module, loader(), validation, ckpt_path=ckpt_path, weights_only=True)
    return monitor


class PairwiseLoss(Classifier):
    """The loss multiplies matrices: every sample with every other."""

    def training_step(self, batch, batch_idx):
        outputs = self(batch[0])
        return (outputs @ outputs.T).square().mean()


def test_the_loss_counts(tmp_path):
    spend = spend_of(tmp_path, PairwiseLoss()).update_spend()
    # forward, and backward towards both factors
    loss = 3 * 2 * BATCH_SIZE**2 * 2
    assert spend.train_flops == 2 * (NUM_SAMPLES * NETWORK + NUM_SAMPLES // BATCH_SIZE * loss)


class Multiplying(torch.optim.SGD):
    """An optimizer that multiplies matrices, as those of second order do."""

    @torch.no_grad()
    def step(self, closure=None):
        loss = super().step(closure)
        torch.ones(5, 5) @ torch.ones(5, 5)
        return loss


class OwnOptimizer(Classifier):
    def configure_optimizers(self):
        return Multiplying(self.parameters(), lr=0.1)


@pytest.mark.parametrize(("accumulated", "num_updates"), [(1, 6), (2, 4), (3, 2)])
def test_the_optimizer_counts_as_often_as_it_steps(tmp_path, accumulated, num_updates):
    monitor = spend_of(tmp_path, OwnOptimizer(), accumulate_grad_batches=accumulated)
    assert monitor.update_spend().train_flops == 2 * NUM_SAMPLES * NETWORK + num_updates * 250
    assert monitor.meter.estimated == []


class Manual(Classifier):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        for _ in range(2):
            optimizer.zero_grad()
            self.manual_backward(nn.functional.cross_entropy(self(batch[0]), batch[1]))
            optimizer.step()


def test_steps_that_optimize_by_hand_count(tmp_path):
    assert spend_of(tmp_path, Manual()).update_spend().train_flops == 4 * NUM_SAMPLES * NETWORK


def test_mixed_precision_counts_the_same(tmp_path):
    spend = spend_of(tmp_path, Classifier(), precision="bf16-mixed").update_spend()
    assert spend.train_flops == 2 * NUM_SAMPLES * NETWORK


class Validated(Classifier):
    def validation_step(self, batch, batch_idx):
        self.log("val_loss", nn.functional.cross_entropy(self(batch[0]), batch[1]))


@pytest.mark.parametrize("num_sanity_steps", [0, 2])
def test_validation_has_its_own_count_that_of_the_sanity_check_included(tmp_path, num_sanity_steps):
    monitor = spend_of(
        tmp_path, Validated(), validation=loader(), num_sanity_val_steps=num_sanity_steps
    )
    spend = monitor.update_spend()
    assert spend.train_flops == 2 * NUM_SAMPLES * NETWORK
    assert spend.eval_flops == (2 * NUM_SAMPLES + num_sanity_steps * BATCH_SIZE) * FORWARD
    assert spend.flops == spend.train_flops + spend.eval_flops
    make_trainer(tmp_path, [monitor]).validate(Validated(), loader(), verbose=False)
    assert monitor.update_spend().eval_flops == spend.eval_flops, "not a part of the fit"


class Compiled(Classifier):
    def __init__(self):
        super().__init__()
        self.network = torch.compile(self.network, backend="eager")


def test_a_compiled_network_is_counted_on_a_copy_which_is_said(tmp_path):
    monitor = spend_of(tmp_path, Compiled())
    assert monitor.update_spend().train_flops == 2 * NUM_SAMPLES * NETWORK
    assert monitor.meter.estimated == ["train_flops"]
    assert monitor.meter.notes["train_flops"] == PER_SAMPLE


class Unfreezes(Classifier):
    """Trains the first layer in the second epoch alone, as it says after all callbacks."""

    def on_train_epoch_start(self):
        for parameter in list(self.parameters())[:2]:
            parameter.requires_grad_(self.current_epoch == 1)


class CompiledUnfreezes(Unfreezes, Compiled):
    pass


@pytest.mark.parametrize("kind", [Unfreezes, CompiledUnfreezes])
def test_layers_that_are_unfrozen_and_frozen_again_count_as_they_are(tmp_path, kind):
    monitor = spend_of(tmp_path, kind(), max_epochs=4)
    frozen = FORWARD + 2 * 8 * 2  # backward towards the weights of the last layer alone
    assert monitor.update_spend().train_flops == NUM_SAMPLES * (NETWORK + 3 * frozen)


class SkipsTheRest(Classifier):
    def on_train_batch_start(self, batch, batch_idx):
        return -1 if batch_idx == 1 else None


def test_an_epoch_that_ends_early_is_counted_as_far_as_it_went(tmp_path):
    monitor = spend_of(tmp_path, SkipsTheRest(), max_epochs=3)
    assert monitor.update_spend().train_flops == 3 * BATCH_SIZE * NETWORK


class Breaks(Classifier):
    def __init__(self, step):
        super().__init__()
        self.step = step

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        if self.trainer.global_step == self.step:
            raise RuntimeError("broken")
        return loss


@pytest.mark.parametrize("step", [0, 4])
def test_an_error_in_a_step_leaves_no_counter_behind(tmp_path, step):
    monitor = CostMonitor()
    with pytest.raises(RuntimeError, match="broken"):
        make_trainer(tmp_path, [monitor]).fit(Breaks(step), loader())
    before = monitor.update_spend()
    torch.ones(3, 3) @ torch.ones(3, 3)
    assert monitor.update_spend() == before
    assert before.train_flops == step * BATCH_SIZE * NETWORK
    assert before.wall_clock_s > 0


def saving(folder):
    return ModelCheckpoint(folder, filename="last", enable_version_counter=False)


def test_what_was_lost_with_an_error_is_done_again_and_counts_twice(tmp_path):
    options = {"enable_checkpointing": True, "max_epochs": 4}
    whole = spend_of(tmp_path / "whole", Classifier(), callbacks=[Halve(2)], max_epochs=4)
    monitor = CostMonitor()
    trainer = make_trainer(tmp_path, [monitor, Halve(2), saving(tmp_path)], **options)
    with pytest.raises(RuntimeError, match="broken"):
        trainer.fit(Breaks(5), loader())
    lost = 2 * BATCH_SIZE * NETWORK
    assert monitor.update_spend().train_flops == NUM_SAMPLES * NETWORK + lost
    (journal,) = tmp_path.glob("spend-*.json")

    resumed = spend_of(
        tmp_path,
        Classifier(),
        callbacks=[Halve(2), saving(tmp_path)],
        ckpt_path=tmp_path / "last.ckpt",
        **options,
    )
    found, expected = resumed.update_spend(), whole.update_spend()
    assert found.train_flops == expected.train_flops + lost
    assert found.search_flops == expected.search_flops == 1000
    assert found.wall_clock_s > monitor.update_spend().wall_clock_s
    assert not journal.exists()


def test_a_finished_run_that_is_taken_up_again_has_lost_nothing(tmp_path):
    options = {"enable_checkpointing": True}
    first = spend_of(tmp_path, Classifier(), callbacks=[saving(tmp_path)], **options)
    assert first.update_spend().train_flops == 2 * NUM_SAMPLES * NETWORK
    for _ in range(2):  # both go on from one checkpoint, and neither has what the other did
        further = spend_of(
            tmp_path / "further",
            Classifier(),
            callbacks=[saving(tmp_path / "further")],
            ckpt_path=tmp_path / "last.ckpt",
            max_epochs=3,
            **(options),
        )
        assert further.update_spend().train_flops == 3 * NUM_SAMPLES * NETWORK


def test_without_checkpoints_nothing_is_written(tmp_path):
    spend_of(tmp_path, Classifier())
    assert not list(tmp_path.rglob("spend-*"))
