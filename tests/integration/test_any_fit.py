"""Pruning works inside any fit, and each such fit resumes bit for bit from every epoch."""

from itertools import pairwise

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import (
    EMAWeightAveraging,
    ModelCheckpoint,
    StochasticWeightAveraging,
)
from pytorch_lightning.plugins import MixedPrecision
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import lr_scheduler

from lightning_cost.budget.model import ModelBudget
from lightning_cost.cost.flop_counter import FlopCounter
from lightning_cost.cost.resource import Resource
from lightning_cost.hardware.device import Hardware
from lightning_cost.monitor.callback import CostMonitor
from lightning_cost.monitor.measure import measure
from lightning_cost.network.averaging import averaged_copies
from lightning_cost.network.distillation import Distillation
from lightning_cost.network.lineage import lineage_of, lineage_to_list
from lightning_cost.pruning.callback import GlobalRankingPruning
from lightning_cost.pruning.guard import MetricGuard
from lightning_cost.pruning.schedule import PruningSchedule
from lightning_cost.pruning.search.evolution import EvolutionSearch
from lightning_cost.pruning.search.run import SearchRun
from lightning_cost.pruning.target.channels import ChannelRules
from lightning_cost.quantization.callback import QuantizationAwareTraining
from lightning_cost.quantization.fake_quantizers import activation_fake_quantizers
from tests.integration import setting

pytestmark = pytest.mark.filterwarnings("ignore:.*lr_scheduler.step:UserWarning")


def pruning(schedule=None, budget=None, **given):
    usual = {"warmup_epochs": 1, "num_steps": 2, "recover_epochs": 1, "shape": "linear"}
    return GlobalRankingPruning(
        budget or ModelBudget(macs="50%"),
        schedule=PruningSchedule(**(usual | (schedule or {}))),
        search=EvolutionSearch(num_candidates=2, calibration_samples=64, search_samples=64),
        channels=ChannelRules(multiple=4),
        **given,
    )


class Falling(type(setting.module())):
    """Logs a metric that gets worse with every epoch."""

    def on_validation_epoch_end(self):
        self.log("val/falling", -float(self.current_epoch))


def tiny_network():
    layers = [nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))


def module(optimizers=None, compiled=None, tiny=False):
    """The usual module, trained by other optimizers, smaller, or compiled."""
    made = setting.module()
    made.__class__ = Falling
    if tiny:
        made.network = tiny_network()
    if optimizers is not None:
        made.configure_optimizers = lambda: optimizers(made)
    if compiled == "wrapped":
        made.network = torch.compile(made.network, backend="eager")
    elif compiled == "in place":
        made.network.compile(backend="eager")
    return made


def fitted(folder, made, prune, *others, checkpoint=None, **options):
    saving = ModelCheckpoint(
        dirpath=folder,
        filename="{epoch}",
        save_top_k=-1,
        enable_version_counter=False,
        save_on_train_epoch_end=True,
    )
    trainer = setting.trainer(
        folder,
        [*others, prune, saving],
        enable_checkpointing=True,
        **({"max_epochs": 3} | options),
    )
    trainer.fit(made, datamodule=setting.data(), ckpt_path=checkpoint, weights_only=True)
    return trainer


def resumes(folder, make, *, epoch=1):
    """The module and Trainer of a whole fit, after one resumed from ``epoch`` ended as it did."""
    whole, prune, others, options = make()
    trainer = fitted(folder, whole, prune, *others, **options)
    again, prune_again, others, options = make()
    checkpoint = folder / f"epoch={epoch}.ckpt"
    fitted(folder / "again", again, prune_again, *others, checkpoint=checkpoint, **options)
    assert lineage_to_list(lineage_of(network_of(again))) == lineage_to_list(
        lineage_of(network_of(whole))
    )
    expected, found = whole.state_dict(), again.state_dict()
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    held = {id(p) for o in trainer.optimizers for g in o.param_groups for p in g["params"]}
    assert held >= {id(p) for p in whole.parameters()}
    return whole, trainer


def network_of(made):
    return getattr(made.network, "_orig_mod", made.network)


OPTIMIZERS = {
    "adam fused": lambda m: torch.optim.Adam(m.parameters(), 1e-3, fused=True),
    "adamw foreach, groups, one cycle": lambda m: _with_schedule(
        torch.optim.AdamW(_groups(m), 1e-3, foreach=True),
        lambda o: lr_scheduler.OneCycleLR(o, 0.01, total_steps=40),
        interval="step",
    ),
    "rmsprop, cosine": lambda m: _with_schedule(
        torch.optim.RMSprop(m.parameters(), 1e-3, momentum=0.9, centered=True),
        lambda o: lr_scheduler.CosineAnnealingLR(o, 3),
    ),
    "adagrad": lambda m: torch.optim.Adagrad(m.parameters(), 1e-2),
    "adafactor": lambda m: torch.optim.Adafactor(m.parameters(), 1e-2),
}


def _groups(made):
    parameters = list(made.parameters())
    return [{"params": parameters[::-2]}, {"params": parameters[-2::-2], "weight_decay": 0.0}]


def _with_schedule(optimizer, scheduler, **how):
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler(optimizer), **how}}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_any_optimizer_and_schedule(tmp_path, name):
    made, trainer = resumes(tmp_path, lambda: (module(OPTIMIZERS[name]), pruning(), (), {}))
    assert len(lineage_of(made.network)) == 2
    for parameter in made.parameters():
        for state in trainer.optimizers[0].state[parameter].values():
            assert not isinstance(state, torch.Tensor) or state.numel() <= parameter.numel()


def test_an_optimizer_without_channels_in_its_state_is_refused_before_the_search(tmp_path):
    made = module(lambda m: torch.optim.LBFGS(m.parameters(), 0.01, max_iter=1))
    with pytest.raises(
        ValueError, match=r"optimizer must keep state that .* got LBFGS with .* train with SGD"
    ):
        fitted(tmp_path, made, pruning())


class TwoOptimizers(type(setting.module())):
    """Steps by hand: the network with one optimizer, its last layer with another."""

    automatic_optimization = False

    def training_step(self, batch, batch_idx):
        loss = cross_entropy(self(batch[0]), batch[1])
        for optimizer in self.optimizers():
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in self.optimizers():
            optimizer.step()

    def configure_optimizers(self):
        last = list(self.network.classifier.parameters())
        rest = [p for p in self.parameters() if all(p is not other for other in last)]
        return torch.optim.SGD(rest, 0.05, momentum=0.9), torch.optim.Adam(last)


def by_hand():
    made = setting.module()
    made.__class__ = TwoOptimizers
    made._automatic_optimization = False
    return made


def test_manual_optimisation_with_two_optimizers(tmp_path):
    made, trainer = resumes(tmp_path, lambda: (by_hand(), pruning(), (), {}))
    assert len(lineage_of(made.network)) == 2
    assert len(trainer.optimizers) == 2


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_averaged_weights_are_operated_too(tmp_path, precision):
    def make():
        return (
            module(),
            pruning(),
            (EMAWeightAveraging(decay=0.9),),
            {"precision": precision},
        )

    made, _ = resumes(tmp_path, make)
    saved = torch.load(tmp_path / "epoch=1.ckpt", weights_only=True)
    shapes = {name: value.shape for name, value in saved["state_dict"].items()}
    assert shapes == {name: value.shape for name, value in saved["current_model_state"].items()}
    assert any(
        not torch.equal(value, saved["current_model_state"][name])
        for name, value in saved["state_dict"].items()
    )
    assert len(lineage_of(made.network)) == 2


def test_sixteen_bit_with_a_gradient_scaler(tmp_path):
    def make():
        scaler = torch.amp.GradScaler("cpu")
        plugin = MixedPrecision("16-mixed", "cpu", scaler=scaler)
        return module(tiny=True), pruning(), (), {"plugins": [plugin]}

    made, trainer = resumes(tmp_path, make)
    assert trainer.precision_plugin.scaler.get_scale() > 1
    assert len(lineage_of(made.network)) == 2


def test_weights_in_bfloat16(tmp_path):
    made, _ = resumes(
        tmp_path, lambda: (module(tiny=True), pruning(), (), {"precision": "bf16-true"})
    )
    assert len(lineage_of(made.network)) == 2
    assert {parameter.dtype for parameter in made.network.parameters()} == {torch.bfloat16}


def test_accumulation_and_clipping_with_steps_within_the_epoch(tmp_path):
    seen = []

    class Watch(pl.Callback):
        runs_after = 1

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            seen.append((trainer.current_epoch, batch_idx, len(lineage_of(pl_module.network))))

    def make():
        seen.clear()
        prune = pruning({"updates_per_step": 2})
        options = {"accumulate_grad_batches": 2, "gradient_clip_val": 0.5}
        return module(), prune, (Watch(),), options

    resumes(tmp_path, make, epoch=0)
    # two updates of two batches after the first step, which is at the start of the epoch
    changes = [now[:2] for before, now in pairwise(seen) if now[2] > before[2]]
    assert changes[-1] == (1, 5)  # seen at the next batch, as Watch stands first


@pytest.mark.parametrize("compiled", ["wrapped", "in place"])
def test_compiled_networks(tmp_path, compiled):
    made = module(compiled=compiled, tiny=True)
    fitted(tmp_path, made, pruning())
    plain = module(tiny=True)
    fitted(tmp_path, plain, pruning())
    assert len(lineage_of(network_of(made))) == 2
    for value, expected in zip(
        made.state_dict().values(), plain.state_dict().values(), strict=True
    ):
        assert torch.allclose(value, expected, atol=1e-4)


def test_a_plateau_lowers_the_rate_of_the_operated_network(tmp_path):
    def optimizers(made):
        optimizer = torch.optim.SGD(made.parameters(), 1e-2, momentum=0.9)
        plateau = lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, mode="max")
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": plateau, "monitor": "val/falling"},
        }

    made = module(optimizers, tiny=True)
    trainer = fitted(tmp_path, made, pruning())
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-4)
    assert len(lineage_of(made.network)) == 2


@pytest.mark.filterwarnings("ignore:Swapping scheduler")
def test_stochastic_weight_averaging(tmp_path):
    made = module(lambda m: torch.optim.SGD(m.parameters(), 0.05), tiny=True)
    averaging = StochasticWeightAveraging(0.01, swa_epoch_start=1, annealing_epochs=1)
    fitted(tmp_path, made, pruning(), averaging, max_epochs=4)
    assert len(lineage_of(made.network)) == 2


@pytest.mark.filterwarnings("ignore:rolled back")
def test_rolling_back_survives_a_resume(tmp_path):
    schedule = {"recover_epochs": 2}

    def make():
        guard = MetricGuard(metric="val/falling", max_drop=0.5)
        others = (EMAWeightAveraging(decay=0.5),)
        return module(), pruning(schedule, guard=guard), others, {"max_epochs": 4}

    made, trainer = resumes(tmp_path, make, epoch=1)
    assert lineage_of(made.network) == ()
    prune = next(c for c in trainer.callbacks if isinstance(c, GlobalRankingPruning))
    assert prune.remarks[0].startswith(
        "rolled back to pruning step 0: val/falling went from 0 to -1"
    )
    assert prune.widths == {}
    assert prune.is_finished


@pytest.mark.filterwarnings("ignore:stopped pruning", "ignore:went on")
@pytest.mark.parametrize(
    ("on_drop", "num_epochs", "num_changes"), [("stop", 2, 1), ("go_on", 3, 2)]
)
def test_stopping_and_going_on(tmp_path, on_drop, num_epochs, num_changes):
    made, guard = module(), MetricGuard(metric="val/falling", max_drop=0.5, on_drop=on_drop)
    trainer = fitted(tmp_path, made, pruning(guard=guard))
    assert trainer.current_epoch == num_epochs
    assert len(lineage_of(made.network)) == num_changes


@pytest.mark.filterwarnings("ignore:rolled back", "ignore:val/falling was not judged")
@pytest.mark.parametrize(
    ("schedule", "max_epochs"), [({"num_steps": 1}, 4), ({"recover_epochs": 2}, 5)]
)
def test_epochs_without_validation_are_judged_later(tmp_path, schedule, max_epochs):
    options = {"max_epochs": max_epochs, "check_val_every_n_epoch": 2}

    def make():
        guard = MetricGuard(metric="val/falling", max_drop=0.5)
        return module(tiny=True), pruning({"warmup_epochs": 2} | schedule, guard=guard), (), options

    made, trainer = resumes(tmp_path, make, epoch=2)
    assert lineage_of(made.network) == ()
    prune = next(c for c in trainer.callbacks if isinstance(c, GlobalRankingPruning))
    awaited, acted = prune.remarks
    assert awaited.startswith("val/falling was not judged after pruning step 1, as nothing")
    assert acted.startswith("rolled back to pruning step 0: val/falling went from -1 to -3")


@pytest.mark.filterwarnings("ignore:the guard is off")
def test_a_dense_network_that_was_not_validated_is_told_of(tmp_path):
    guard = MetricGuard(metric="val/falling", max_drop=0.5)
    prune, made = pruning(guard=guard), module(tiny=True)
    fitted(tmp_path, made, prune, check_val_every_n_epoch=2)
    (remark,) = prune.remarks
    assert remark.endswith("validate within the warm-up, by check_val_every_n_epoch of the Trainer")
    assert len(lineage_of(made.network)) == 2


def test_a_metric_that_is_not_logged_is_refused(tmp_path):
    prune = pruning(guard=MetricGuard(metric="val/typo", max_drop=0.5))
    with pytest.raises(ValueError, match=r"metric must be one that .* got 'val/typo'; logged are"):
        fitted(tmp_path, module(tiny=True), prune)


def test_the_teacher_is_in_no_state_but_the_callbacks(tmp_path):
    made = module()
    prune = pruning(distillation=Distillation(weight=0.9))
    names = list(made.state_dict())
    fitted(tmp_path, made, prune)
    assert list(made.state_dict()) == names
    kept = torch.load(tmp_path / "epoch=1.ckpt", weights_only=True)["callbacks"]
    assert kept["GlobalRankingPruning"]["teacher"].keys() == made.network.state_dict().keys()
    over = torch.load(tmp_path / "epoch=2.ckpt", weights_only=True)["callbacks"]
    assert over["GlobalRankingPruning"]["teacher"] is None


def test_another_budget_is_refused_once_the_steps_are_planned(tmp_path):
    fitted(tmp_path, module(), pruning())
    other = pruning()
    other.budget = ModelBudget(macs="40%")
    with pytest.raises(ValueError, match=r"limits must be those that the checkpoint's pruning"):
        fitted(tmp_path, module(), other, checkpoint=tmp_path / "epoch=1.ckpt")


def test_the_teachers_forward_pass_is_counted(tmp_path):
    spent = []
    for distillation in (None, Distillation()):
        monitor = CostMonitor()
        trainer = fitted(tmp_path, module(), pruning(distillation=distillation), monitor)
        spent.append(monitor.meter.training.total)
    samples = 2 * len(trainer.datamodule.train_dataloader().dataset)  # after the first step
    with FlopCounter() as counter, torch.no_grad():
        setting.module().network(torch.zeros(1, 1, 8, 8))
    assert spent[1] - spent[0] == pytest.approx(counter.total * samples, rel=0.03)


def test_quantisation_with_averaged_weights(tmp_path):
    def make():
        others = (QuantizationAwareTraining(epochs=1), EMAWeightAveraging(decay=0.5))
        return module(tiny=True), pruning(), others, {"max_epochs": 4}

    made, trainer = resumes(tmp_path, make, epoch=2)
    assert lineage_of(made.network)[-1].kind == "prepare_quantization"
    averaged = averaged_copies(trainer, made.network)
    assert [lineage_of(copied) for copied in averaged] == [lineage_of(made.network)]
    for quantizer in activation_fake_quantizers(made.network).values():
        assert quantizer.num_observed > 0
        assert quantizer.max_value > quantizer.min_value


def test_limits_of_a_device_are_compared_with_the_dense_network_in_int8(tmp_path, monkeypatch):
    board = Hardware.load("core_i7_1185g7")
    dense = measure(tiny_network(), torch.zeros(1, 1, 8, 8), hardware=board)
    limit, ratios = 0.2 * dense[Resource.latency_ms].value, []
    learn = SearchRun.learn

    def noted(run, problem, *args, **given):
        ratios.append(problem.macs_ratio())
        return learn(run, problem, *args, **given)

    monkeypatch.setattr(SearchRun, "learn", noted)

    def make():
        prune = pruning(budget=ModelBudget(latency_ms=limit), hardware=board)
        return module(tiny=True), prune, (QuantizationAwareTraining(epochs=1),), {"max_epochs": 4}

    resumes(tmp_path, make, epoch=1)
    int8 = measure(
        QuantizationAwareTraining().preview(tiny_network(), torch.zeros(1, 1, 8, 8)),
        torch.zeros(1, 1, 8, 8),
        hardware=board,
    )
    expected = limit / int8[Resource.latency_ms].value
    assert 0.4 < expected < 0.8
    assert ratios == [pytest.approx(expected)] * len(ratios)
