import json
import time

import pytest
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger

from lightning_cost.cost.resource import Resource
from lightning_cost.cost.training_flops import count_training_flops
from lightning_cost.hardware.device import Hardware
from lightning_cost.monitor import progress_bar
from lightning_cost.monitor.callback import CostMonitor
from lightning_cost.monitor.measure import measure
from lightning_cost.network.participants import callbacks_of
from tests.monitor.halving import (
    BATCH_SIZE,
    NUM_SAMPLES,
    Classifier,
    Halve,
    dense_macs,
    loader,
    logged_rows,
    make_trainer,
)

ROOFLINE = Hardware(
    name="toy",
    is_local=False,
    peak_gmacs_fp32=1.0,
    bandwidth_gb_s=1.0,
    power_w=2.0,
    source="test",
    date="2025",
)


def fit(folder, callbacks, module=None, ckpt_path=None, **options):
    torch.manual_seed(0)
    module = module or Classifier()
    trainer = make_trainer(folder, callbacks, **options)
    trainer.fit(module, loader(), ckpt_path=ckpt_path, weights_only=True)
    return trainer, module


def test_alone_it_keeps_one_row_an_epoch_with_the_costs_of_measure(tmp_path):
    monitor = CostMonitor(ROOFLINE)
    _, module = fit(tmp_path, [monitor], max_epochs=3)
    expected = measure(module.network, torch.zeros(1, 4), hardware=ROOFLINE)
    assert monitor.cost == monitor.dense == expected
    assert Resource.energy_mj in expected
    assert [row["epoch"] for row in monitor.history] == [0, 1, 2]
    assert monitor.history[0]["step"] == NUM_SAMPLES // BATCH_SIZE
    assert "train_loss" in monitor.history[0]["metrics"]
    assert set(monitor.history[0]["cost"]) == {resource.value for resource in expected}
    assert not any(key.startswith("cost/") for key in monitor.history[1]["metrics"])


@pytest.mark.parametrize("halve_first", [True, False])
@pytest.mark.parametrize("at_end", [True, False])
def test_it_follows_a_structural_change_in_any_list_order(tmp_path, halve_first, at_end):
    halve, monitor = Halve(1, at_end=at_end), CostMonitor()
    fit(tmp_path, [halve, monitor] if halve_first else [monitor, halve], max_epochs=3)
    first_halved = 2 if at_end else 1
    macs = [row["cost"]["macs"]["value"] for row in monitor.history]
    assert macs == [dense_macs(8 if epoch < first_halved else 4) for epoch in range(3)]
    assert monitor.dense[Resource.macs].value == dense_macs(8)
    phases = [row["phase"] for row in monitor.history]
    assert phases == ([None, None, None] if at_end else [None, "recover", None])


def test_an_epoch_in_which_nothing_is_trained_has_no_row(tmp_path):
    class Stop(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            trainer.should_stop = trainer.current_epoch == 1

    monitor = CostMonitor()
    fit(tmp_path, [Halve(1), Stop(), monitor], max_epochs=3)
    assert [row["epoch"] for row in monitor.history] == [0]
    assert monitor.history[0]["cost"]["macs"]["value"] == dense_macs(8)
    assert monitor.cost[Resource.macs].value == dense_macs(4)


def test_an_epoch_that_was_saved_when_validated_has_its_row_after_a_resume(tmp_path):
    class Validated(Classifier):
        def validation_step(self, batch, batch_idx):
            self.log("val_loss", self(batch[0]).sum())

    class Save(Callback):
        def on_validation_end(self, trainer, pl_module):
            trainer.save_checkpoint(tmp_path / f"{trainer.current_epoch}.ckpt")

    def rows(callbacks, path=None):
        monitor = CostMonitor()
        trainer = make_trainer(tmp_path, [monitor, *callbacks], max_epochs=3)
        trainer.fit(Validated(), loader(), loader(), ckpt_path=path, weights_only=True)
        return [row["epoch"] for row in monitor.history]

    assert rows([Save()]) == rows([], tmp_path / "1.ckpt") == [0, 1, 2]


def test_it_logs_at_start_at_changes_and_every_n_epochs(tmp_path):
    logger = CSVLogger(tmp_path, flush_logs_every_n_steps=1)
    fit(tmp_path, [CostMonitor(every_n_epochs=3), Halve(1)], logger=logger, max_epochs=4)
    rows = logged_rows(tmp_path)
    steps = NUM_SAMPLES // BATCH_SIZE
    assert [int(row["step"]) for row in rows] == [0, steps, 3 * steps]
    assert [float(row["cost/macs"]) for row in rows] == [
        dense_macs(8),
        dense_macs(4),
        dense_macs(4),
    ]
    assert float(rows[0]["spend/train_flops"]) == 0
    assert float(rows[-1]["spend/search_flops"]) == 1000


def test_training_flops_follow_the_structure(tmp_path):
    monitor = CostMonitor()
    fit(tmp_path, [monitor, Halve(1)], max_epochs=3)
    example = torch.zeros(1, 4)
    dense = count_training_flops(Classifier(8).network, example)
    halved = count_training_flops(Classifier(4).network, example)
    spend = monitor.update_spend()
    assert spend.train_flops == NUM_SAMPLES * (dense + 2 * halved)
    assert spend.flops == spend.train_flops + 1000
    assert spend.energy_kwh is None


def test_macs_and_latency_are_in_the_progress_bar(tmp_path):
    trainer, _ = fit(tmp_path, [CostMonitor(ROOFLINE)], max_epochs=1)
    shown = trainer.progress_bar_metrics
    assert shown["MACs"] == str(dense_macs())
    assert float(shown["ms"]) > 0
    # what is logged as a metric, Lightning reads out after each step
    assert not any(name.startswith("cost/") for name in trainer.callback_metrics)


def test_a_structural_change_without_lineage_is_seen_at_the_next_epoch(tmp_path):
    class Swap(Halve):
        def _halve(self, trainer, pl_module):
            if trainer.current_epoch == 1:
                pl_module.network[0] = torch.nn.Linear(4, 2)
                pl_module.network[2] = torch.nn.Linear(2, 2)

    monitor = CostMonitor()
    fit(tmp_path, [monitor, Swap(1)], max_epochs=2)
    assert monitor.cost[Resource.macs].value == dense_macs(2)


def test_state_survives_a_resume(tmp_path):
    path = tmp_path / "two.ckpt"
    first, halve = CostMonitor(ROOFLINE), Halve(1)
    trainer, _ = fit(tmp_path, [first, halve], max_epochs=2)
    trainer.save_checkpoint(path)
    saved = torch.load(path, weights_only=True)["callbacks"]["CostMonitor"]
    assert [json.loads(row)["step"] for row in saved["tracker"]["rows"]] == [
        row["step"] for row in first.history
    ]

    resumed = CostMonitor(ROOFLINE)
    fit(tmp_path, [resumed, Halve(1)], max_epochs=3, ckpt_path=path)
    whole = CostMonitor(ROOFLINE)
    fit(tmp_path, [whole, Halve(1)], max_epochs=3)
    assert resumed.dense == whole.dense
    assert resumed.cost == whole.cost
    assert [row["epoch"] for row in resumed.history] == [0, 1, 2]
    assert resumed.history[:2] == first.history
    assert resumed.update_spend().train_flops == whole.update_spend().train_flops
    assert resumed.meter.seconds > first.meter.seconds


def test_training_is_the_same_with_and_without_it(tmp_path):
    _, watched = fit(tmp_path, [CostMonitor(ROOFLINE)], max_epochs=2)
    _, alone = fit(tmp_path, [], max_epochs=2)
    for one, other in zip(watched.parameters(), alone.parameters(), strict=True):
        assert torch.equal(one, other)


def test_it_runs_after_the_others_and_before_checkpoints(tmp_path):
    halve, monitor = Halve(1), CostMonitor()
    checkpoint = ModelCheckpoint(tmp_path)
    trainer, _ = fit(
        tmp_path, [monitor, checkpoint, halve], max_epochs=1, enable_checkpointing=True
    )
    order = [entry for entry in callbacks_of(trainer) if entry in (halve, monitor, checkpoint)]
    assert order == [halve, monitor, checkpoint]


def test_local_hardware_describes_the_training_machine(tmp_path):
    hardware = Hardware.local(runtime="eager", power_w=50.0, price_usd_per_hour=1.0)
    monitor = CostMonitor(hardware)
    fit(tmp_path, [monitor], max_epochs=1)
    spend = monitor.update_spend()
    assert spend.energy_kwh == pytest.approx(50 * spend.wall_clock_s / 3.6e6)
    assert spend.usd == pytest.approx(spend.wall_clock_s / 3600)
    assert monitor.cost[Resource.latency_ms].runtime == "eager"


def test_between_measurements_a_step_costs_microseconds(tmp_path):
    """A hundredth of the shortest steps that train anything, about a millisecond."""
    monitor = CostMonitor()
    trainer, module = fit(tmp_path, [monitor], max_epochs=1)
    batch = [torch.zeros(8, 4), torch.zeros(8)]
    start = time.perf_counter()
    for index in range(1, 1001):
        monitor.on_train_batch_start(trainer, module, batch, index)
        monitor.on_train_batch_end(trainer, module, None, batch, index)
    without = time.perf_counter()
    for _ in range(1000):
        torch.nn.functional.linear(batch[0], module.network[0].weight).sum().backward()
    backward = time.perf_counter()
    assert without - start < 0.5 * (backward - without)


def test_a_long_epoch_is_not_slowed_down_by_what_the_bar_shows(tmp_path, monkeypatch):
    monkeypatch.setattr(progress_bar, "NUM_BATCHES_SHOWN", 1)
    seen = {}

    class Watching(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            seen[trainer.current_epoch, batch_idx] = "MACs" in trainer.progress_bar_metrics

    fit(tmp_path, [CostMonitor(), Watching(), Halve(1)], max_epochs=2)
    assert seen == {
        (epoch, index): index == 0 for epoch in range(2) for index in range(NUM_SAMPLES // 8)
    }


def test_every_n_epochs_must_be_positive():
    with pytest.raises(ValueError, match="every_n_epochs must be >= 1, got 0; the start and"):
        CostMonitor(every_n_epochs=0)


def test_a_fit_that_fails_before_it_trains_leaves_no_journal(tmp_path):
    class Failing(Callback):
        def on_train_start(self, *_):
            raise MemoryError("no more")

    saving = ModelCheckpoint(tmp_path, filename="last")
    with pytest.raises(MemoryError, match="no more"):
        fit(
            tmp_path,
            [CostMonitor(ROOFLINE), Failing(), saving],
            max_epochs=1,
            enable_checkpointing=True,
        )
    assert not list(tmp_path.rglob("spend-*"))
