import itertools
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Callback
from torch.utils.data import DataLoader, TensorDataset

from lightning_cost.budget.callback import BudgetStopping
from lightning_cost.budget.model import ModelBudget
from lightning_cost.budget.training import TrainingBudget
from lightning_cost.cost.resource import Resource
from lightning_cost.cost.training_flops import count_training_flops
from lightning_cost.hardware.device import Hardware
from lightning_cost.monitor.callback import CostMonitor
from lightning_cost.network.checkpoint import load_compressed
from lightning_cost.network.participants import LimitsCompute
from tests.monitor.halving import (
    BATCH_SIZE,
    NUM_SAMPLES,
    Classifier,
    Halve,
    dense_macs,
    loader,
    make_trainer,
)

HALF = ModelBudget(macs="50%")
STEPS = NUM_SAMPLES // BATCH_SIZE
MID_EPOCH = "ignore:You're resuming from a checkpoint that ended before the epoch ended"


def fit(folder, callbacks, ckpt_path=None, **options):
    torch.manual_seed(0)
    trainer = make_trainer(folder, callbacks, **options)
    trainer.fit(Classifier(), loader(), ckpt_path=ckpt_path, weights_only=True)
    return trainer


def step_flops():
    return BATCH_SIZE * count_training_flops(Classifier().network, torch.zeros(1, 4))


class Interrupt(Callback):
    def __init__(self, step):
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step:
            raise KeyboardInterrupt


def test_alone_it_stops_once_the_model_budget_is_kept(tmp_path):
    stopping = BudgetStopping(ModelBudget(macs=dense_macs()))
    trainer = fit(tmp_path, [stopping])
    assert trainer.current_epoch == 1
    assert stopping.stop_reason == f"model budget kept: macs {dense_macs()} of {dense_macs()} MAC"
    assert stopping.headroom() == {"macs": 0.0}


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_it_waits_for_the_others_in_any_list_order(tmp_path, order):
    stopping, monitor = BudgetStopping(HALF), CostMonitor()
    callbacks = [stopping, monitor, Halve(1, recover_epochs=2)]
    trainer = fit(tmp_path, [callbacks[index] for index in order], max_epochs=6)
    assert trainer.current_epoch == 3  # halved in epoch 1, recovered in 1 and 2
    assert stopping.monitor is monitor
    assert [row["epoch"] for row in monitor.history] == [0, 1, 2]
    saved = torch.load(tmp_path / "budget.ckpt", weights_only=True)
    assert len(saved["callbacks"]["CostMonitor"]["tracker"]["rows"]) == 3


def test_without_a_monitor_it_brings_its_own(tmp_path):
    stopping = BudgetStopping(HALF)
    fit(tmp_path, [stopping, Halve(1)])
    assert stopping.monitor.dense[Resource.macs].value == dense_macs()
    assert [row["cost"]["macs"]["value"] for row in stopping.monitor.history] == [48, 24]


def test_the_checkpoint_carries_reason_and_network(tmp_path):
    stopping = BudgetStopping(HALF, checkpoint_dir=str(tmp_path / "deep" / "er"))
    trainer = fit(tmp_path, [stopping, Halve(1)])
    path = tmp_path / "deep" / "er" / "budget.ckpt"
    saved = torch.load(path, weights_only=True)
    assert saved["callbacks"]["BudgetStopping"]["stop_reason"] == stopping.stop_reason
    assert saved["global_step"] == trainer.global_step
    network = load_compressed(Classifier().network, path)
    assert network[0].out_features == 4


def test_a_broken_budget_is_said_at_the_end(tmp_path, caplog):
    stopping = BudgetStopping(ModelBudget(macs=10))
    with caplog.at_level(logging.WARNING):
        trainer = fit(tmp_path, [stopping, Halve(0)], max_epochs=2)
    assert trainer.current_epoch == 2
    assert stopping.stop_reason is None
    assert "the model budget is not kept: macs 24 of 10 MAC" in caplog.text


@pytest.mark.parametrize("num_steps", [2, 4.5, 5, 6])
def test_it_stops_before_the_step_that_would_break_the_training_budget(tmp_path, num_steps):
    stopping = BudgetStopping(training=TrainingBudget(flops=num_steps * step_flops()))
    trainer = fit(tmp_path, [stopping])
    assert trainer.global_step == int(num_steps)
    assert stopping.monitor.update_spend().flops <= num_steps * step_flops()
    assert stopping.stop_reason.startswith("training budget spent: flops ")
    assert stopping.stop_reason.endswith("which another step, and ending the fit, would exceed")
    assert (tmp_path / "budget.ckpt").is_file()


@pytest.mark.filterwarnings(MID_EPOCH)
def test_time_is_counted_over_restarts(tmp_path):
    def timed(limit, ckpt_path=None):
        now = iter(range(10_000))
        monitor = CostMonitor(clock=lambda: float(next(now)))
        stopping = BudgetStopping(training=TrainingBudget(wall_clock_s=limit))
        trainer = fit(tmp_path, [stopping, monitor], ckpt_path=ckpt_path, max_epochs=1000)
        return trainer, stopping

    trainer, stopping = timed(100)
    first_step = trainer.global_step
    assert 50 < stopping.monitor.update_spend().wall_clock_s <= 100
    path = tmp_path / "budget.ckpt"

    trainer, stopping = timed(100, path)  # already spent: no further step
    assert trainer.global_step == first_step
    assert stopping.stop_reason.startswith("training budget spent: wall_clock_s ")

    trainer, stopping = timed(200, path)  # with a larger budget it goes on
    assert trainer.global_step > first_step
    assert stopping.monitor.update_spend().wall_clock_s <= 200


def test_a_finished_run_stays_finished_when_resumed(tmp_path):
    first = fit(tmp_path, [BudgetStopping(HALF), Halve(1)])
    again = BudgetStopping(HALF)
    trainer = fit(tmp_path, [again, Halve(1)], ckpt_path=tmp_path / "budget.ckpt")
    assert trainer.global_step == first.global_step
    assert again.stop_reason.startswith("model budget kept: macs 24 of 24")


def resumed_and_whole(folder, step):
    """A run interrupted before ``step`` and resumed, and the same run in one go."""
    with pytest.raises(SystemExit):
        fit(folder, [BudgetStopping(HALF), Halve(1), Interrupt(step)])
    path = folder / "interrupted.ckpt"
    assert torch.load(path, weights_only=True)["callbacks"]["BudgetStopping"]["stop_reason"] is None
    resumed, whole = BudgetStopping(HALF), BudgetStopping(HALF)
    trainer = fit(folder / "resumed", [resumed, Halve(1)], ckpt_path=path)
    expected = fit(folder / "whole", [whole, Halve(1)])
    assert resumed.stop_reason == whole.stop_reason
    assert resumed.monitor.dense == whole.monitor.dense
    assert trainer.current_epoch == expected.current_epoch
    return trainer, expected


@pytest.mark.parametrize("step", [0, STEPS])
def test_a_run_interrupted_between_epochs_goes_on_bit_by_bit(tmp_path, step):
    trainer, expected = resumed_and_whole(tmp_path, step)
    assert trainer.global_step == expected.global_step
    pairs = zip(trainer.model.parameters(), expected.model.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.filterwarnings(MID_EPOCH)
@pytest.mark.parametrize("step", [1, STEPS + 1])
def test_a_run_interrupted_within_an_epoch_goes_on(tmp_path, step):
    resumed_and_whole(tmp_path, step)


def test_an_interrupt_before_the_first_epoch_leaves_a_checkpoint(tmp_path):
    class AtStart(Callback):
        def on_fit_start(self, trainer, pl_module):
            raise KeyboardInterrupt

    with pytest.raises(SystemExit):
        fit(tmp_path, [BudgetStopping(HALF), AtStart()])
    resumed = BudgetStopping(HALF)
    trainer = fit(tmp_path, [resumed, Halve(1)], ckpt_path=tmp_path / "interrupted.ckpt")
    assert trainer.current_epoch == 2
    assert resumed.monitor.dense[Resource.macs].value == dense_macs()


def test_other_errors_leave_no_checkpoint(tmp_path):
    class Broken(Callback):
        def on_train_batch_start(self, *_):
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        fit(tmp_path, [BudgetStopping(HALF), Broken()])
    assert not (tmp_path / "interrupted.ckpt").exists()


@pytest.mark.parametrize("kind", ["training", "model"])
def test_two_ranks_stop_on_the_same_step(tmp_path, kind):
    root = Path(__file__).parents[2]
    subprocess.run(
        [sys.executable, str(root / "tests/budget/ddp_stop.py"), str(tmp_path), kind],
        check=True,
        timeout=300,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
    )
    ranks = [json.loads((tmp_path / f"{kind}_{rank}.json").read_text()) for rank in range(2)]
    assert ranks[0] == ranks[1]
    if kind == "training":
        assert ranks[0]["step"] == 3
        assert ranks[0]["reason"].startswith("training budget spent: wall_clock_s 100 of 50")
    else:
        assert ranks[0]["macs"] == [48, 24]
        assert ranks[0]["reason"] == "model budget kept: macs 24 of 24 MAC"


def test_an_empty_budget():
    with pytest.raises(ValueError, match="model or training must limit something, got two empty"):
        BudgetStopping(ModelBudget())


def test_latency_without_hardware_is_refused_before_training(tmp_path):
    with pytest.raises(ValueError, match="hardware must be given where latency_ms is limited"):
        fit(tmp_path, [BudgetStopping(ModelBudget(latency_ms=1))])


@pytest.mark.parametrize("monitor_first", [True, False])
def test_hardware_is_shared_with_the_monitor(tmp_path, monitor_first):
    hardware, monitor = Hardware.load("raspberry_pi_4"), CostMonitor()
    stopping = BudgetStopping(ModelBudget(latency_ms="50%"), hardware=hardware)
    callbacks = [monitor, stopping] if monitor_first else [stopping, monitor]
    fit(tmp_path, [*callbacks, Halve(0)], max_epochs=2)
    assert monitor.hardware is hardware
    assert monitor.dense[Resource.latency_ms].device == "raspberry_pi_4"


@pytest.mark.parametrize("monitor_first", [True, False])
def test_the_name_of_the_network_is_shared_with_the_monitor(tmp_path, monitor_first):
    class Two(Classifier):
        def __init__(self):
            super().__init__()
            self.other = torch.nn.Linear(2, 2)

    stopping, monitor = BudgetStopping(HALF, network="network"), CostMonitor()
    callbacks = [monitor, stopping] if monitor_first else [stopping, monitor]
    make_trainer(tmp_path, callbacks, max_epochs=1).fit(Two(), loader())
    assert monitor.cost[Resource.macs].value == dense_macs()


def test_two_different_devices(tmp_path):
    callbacks = [
        CostMonitor(Hardware.load("nvidia_t4")),
        BudgetStopping(HALF, hardware=Hardware.load("nvidia_l4")),
    ]
    with pytest.raises(ValueError, match="hardware must be the same for BudgetStopping and CostM"):
        fit(tmp_path, callbacks)


def test_money_without_a_price_is_refused_before_training(tmp_path):
    stopping = BudgetStopping(training=TrainingBudget(usd=1))
    with pytest.raises(ValueError, match="price_usd_per_hour of the training machine must be kn"):
        fit(tmp_path, [stopping])
    assert stopping.monitor.update_spend().train_flops == 0


def test_money_with_a_price(tmp_path):
    stopping = BudgetStopping(
        training=TrainingBudget(usd="1000 USD"),
        train_hardware=Hardware.local(price_usd_per_hour=1.0),
    )
    fit(tmp_path, [stopping], max_epochs=1)
    assert stopping.stop_reason is None
    assert 0.99 < stopping.headroom()["training/usd"] < 1


def test_a_percentage_of_a_network_that_is_no_longer_dense(tmp_path):
    fit(tmp_path, [BudgetStopping(HALF), Halve(0)])
    module = Classifier()
    load_compressed(module.network, tmp_path / "budget.ckpt")
    trainer = make_trainer(tmp_path, [BudgetStopping(HALF)])
    with pytest.raises(ValueError, match="macs must be an absolute limit where the dense"):
        trainer.fit(module, loader())


def test_an_unwritable_directory(tmp_path):
    (tmp_path / "file").write_text("")
    folder = str(tmp_path / "file" / "below")
    with pytest.raises(ValueError, match=r"checkpoint_dir must be writable, got .*Not a directory"):
        fit(tmp_path, [BudgetStopping(HALF, checkpoint_dir=folder)])


def test_a_second_fit_goes_on_with_the_same_trainer(tmp_path):
    stopping = BudgetStopping(ModelBudget(macs=dense_macs()))
    trainer = fit(tmp_path, [stopping])
    trainer.fit_loop.max_epochs = 3
    trainer.fit(Classifier(), loader())
    assert sum(isinstance(entry, CostMonitor) for entry in trainer.callbacks) == 1
    assert stopping.stop_reason.startswith("model budget kept")


class Validated(Classifier):
    def validation_step(self, batch, batch_idx):
        self.log("val_loss", torch.nn.functional.cross_entropy(self(batch[0]), batch[1]))


@pytest.mark.parametrize("num_steps", range(4, 24))
def test_validation_at_the_end_is_within_the_budget(tmp_path, num_steps):
    limit = num_steps * step_flops()
    stopping = BudgetStopping(training=TrainingBudget(flops=limit))
    trainer = make_trainer(tmp_path, [stopping], max_epochs=50)
    trainer.fit(Validated(), loader(), loader())
    spend = stopping.monitor.update_spend()
    assert spend.eval_flops > 0
    assert 0.3 * limit < spend.flops <= limit


def spent_ratio(folder, num_steps, num_batches, **options):
    """What a fit with as many batches to train as to validate uses of a budget of FLOPs."""
    limit = num_steps * step_flops()
    stopping = BudgetStopping(training=TrainingBudget(flops=limit))
    trainer = make_trainer(folder, [stopping], max_epochs=100, **options)
    inputs = torch.zeros(num_batches * BATCH_SIZE, 4)
    data = TensorDataset(inputs, torch.zeros(len(inputs), dtype=torch.long))
    trainer.fit(Validated(), *(DataLoader(data, batch_size=BATCH_SIZE) for _ in range(2)))
    assert stopping.stop_reason.startswith("training budget spent: flops ")
    return stopping.monitor.update_spend().flops / limit


@pytest.mark.parametrize(("interval", "num_steps"), [(0.25, 460), (1.0, 460)])
def test_with_validations_within_an_epoch_the_budget_is_used_up(tmp_path, interval, num_steps):
    assert 0.9 < spent_ratio(tmp_path, num_steps, 40, val_check_interval=interval) <= 1


@pytest.mark.parametrize(
    ("num_steps", "num_batches", "options"),
    [
        (500, 40, {"val_check_interval": 0.5}),
        (250, 200, {"val_check_interval": 0.5}),
        (425, 40, {"check_val_every_n_epoch": 5}),
        (250, 40, {"val_check_interval": 70, "check_val_every_n_epoch": None}),
        (250, 40, {"val_check_interval": "00:00:01:00"}),
    ],
)
def test_a_validation_that_is_due_and_the_one_of_the_stop_are_both_within_the_budget(
    tmp_path, num_steps, num_batches, options
):
    assert 0.7 < spent_ratio(tmp_path, num_steps, num_batches, **options) <= 1


class Search(Callback):
    """A search that could go on for ever, at the start of the second epoch."""

    search_flops = 0.0

    def on_train_epoch_start(self, trainer, pl_module):
        limiting = [entry for entry in trainer.callbacks if isinstance(entry, LimitsCompute)]
        while trainer.current_epoch == 1 and all(entry.may_go_on() for entry in limiting):
            self.search_flops += step_flops()


def test_a_search_between_two_steps_ends_before_the_budget_does(tmp_path):
    search, limit = Search(), 20 * step_flops()
    stopping = BudgetStopping(training=TrainingBudget(flops=limit))
    trainer = fit(tmp_path, [search, stopping], max_epochs=50)
    assert trainer.global_step == STEPS
    assert limit - 2 * step_flops() < stopping.monitor.update_spend().flops <= limit
    assert stopping.may_go_on() is False
    assert BudgetStopping(HALF).may_go_on()


def test_a_percentage_of_what_was_measured_on_another_device_is_refused(tmp_path):
    here, there = (Hardware.load(name) for name in ("raspberry_pi_4", "raspberry_pi_5"))
    half = ModelBudget(latency_ms="50%")
    trainer = fit(tmp_path, [BudgetStopping(half, hardware=there)], max_epochs=1)
    trainer.save_checkpoint(tmp_path / "there.ckpt")
    with pytest.raises(ValueError, match=r"latency_ms must be an absolute limit .* device must be"):
        fit(
            tmp_path,
            [BudgetStopping(half, hardware=here)],
            ckpt_path=tmp_path / "there.ckpt",
            max_epochs=2,
        )
