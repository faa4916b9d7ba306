"""What is wrong is said before it costs anything, or at least before anything is lost."""

import re
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.strategies import FSDPStrategy
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_cost.budget.callback import BudgetStopping
from lightning_cost.budget.model import ModelBudget
from lightning_cost.hardware.device import Hardware
from lightning_cost.monitor.callback import CostMonitor
from lightning_cost.network.lineage import apply_change, lineage_of
from lightning_cost.pruning.callback import GlobalRankingPruning
from lightning_cost.pruning.guard import MetricGuard
from lightning_cost.pruning.schedule import PruningSchedule
from lightning_cost.quantization.calibrate import calibrate
from lightning_cost.quantization.callback import QuantizationAwareTraining
from lightning_cost.quantization.plan import plan_quantization
from lightning_cost.recipe.callbacks import compress_to
from lightning_cost.zoo.data import ImageData
from lightning_cost.zoo.sources import ImageSource, LabelledImages
from tests.integration import setting


class NoStep(pl.Callback):
    """Fails if a training step is spent."""

    def on_train_batch_start(self, *_):
        raise AssertionError("a training step was spent")


def refused(folder, callbacks, match, *, module=None, data=None, **options):
    """Fit; the error must come before the first training step."""
    module = setting.module() if module is None else module
    data = {"datamodule": setting.data()} if data is None else {"train_dataloaders": data}
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(ValueError, match=match):
        setting.trainer(folder, [NoStep(), *callbacks], **options).fit(module, **data)
    after = module.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (ModelBudget(macs=1000), r"macs <= 1000 MAC \(nearest reachable: [\d.]+ MAC\)"),
        (ModelBudget(macs="0.1%"), r"macs <= [\d.]+ MAC \(nearest reachable: [\d.]+ MAC\)"),
        (
            ModelBudget(params=10, size_bytes="10 B"),
            r"params <= 10 .* \(nearest reachable: \d+ .*size_bytes <= 10 B \(nearest reachable",
        ),
    ],
)
def test_a_budget_that_no_plan_can_keep(tmp_path, budget, message):
    refused(tmp_path, compress_to(budget, settings=setting.settings()), message)


def test_the_named_value_is_reachable_indeed(tmp_path):
    """The oracle of the message: a fit keeps the limit that it names, one less is refused."""
    with pytest.raises(ValueError, match="nearest reachable") as refusal:
        setting.trainer(
            tmp_path, compress_to(ModelBudget(macs=1), settings=setting.settings())
        ).fit(setting.module(), datamodule=setting.data())
    nearest = float(re.search(r"nearest reachable: (\S+) MAC", str(refusal.value))[1])
    refused(
        tmp_path,
        compress_to(ModelBudget(macs=nearest - 1), settings=setting.settings()),
        "nearest reachable",
    )
    callbacks = compress_to(ModelBudget(macs=nearest), settings=setting.settings())
    module = setting.module()
    setting.trainer(tmp_path, callbacks, limit_train_batches=2).fit(
        module, datamodule=setting.data()
    )
    assert callbacks[-1].stop_reason.startswith("model budget kept")


def test_an_unreachable_latency_names_the_nearest(tmp_path):
    budget = ModelBudget(latency_ms="1 ns")
    hardware = Hardware.load("raspberry_pi_4")
    callbacks = compress_to(budget, hardware=hardware, settings=setting.settings())
    refused(tmp_path, callbacks, r"latency_ms <= 1e-06 ms \(nearest reachable: \S+ ms\)")


def test_latency_without_hardware():
    message = r"hardware must be given where latency_ms is limited, got None; pass hardware="
    with pytest.raises(ValueError, match=message):
        GlobalRankingPruning(ModelBudget(latency_ms=1))
    with pytest.raises(ValueError, match=message):
        compress_to(ModelBudget(latency_ms=1))


def test_latency_without_hardware_is_refused_by_budget_stopping_too(tmp_path):
    stopping = BudgetStopping(ModelBudget(latency_ms=1))
    refused(tmp_path, [stopping], "hardware must be given where latency_ms is limited")


class TwoNetworks(pl.LightningModule):
    """A teacher and a student: which of them is deployed cannot be told."""

    def __init__(self):
        super().__init__()
        self.teacher, self.student = nn.Linear(64, 10), nn.Linear(64, 10)

    def training_step(self, batch, batch_idx):
        images, labels = batch
        return nn.functional.cross_entropy(self.student(images.flatten(1)), labels)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize(
    "callback",
    [
        CostMonitor(),
        GlobalRankingPruning(ModelBudget(macs="50%")),
        QuantizationAwareTraining(),
        BudgetStopping(ModelBudget(macs="50%")),
    ],
    ids=lambda callback: type(callback).__name__,
)
def test_a_network_that_cannot_be_found(tmp_path, callback):
    message = r"got candidates 'teacher', 'student', 'self'; pass network='NAME'"
    data = setting.data().train_dataloader()
    refused(tmp_path, [callback], message, module=TwoNetworks(), data=data)


class Untraceable(pl.LightningModule):
    """A layer in the middle computes outside of what PyTorch can follow."""

    def __init__(self):
        super().__init__()
        self.network = nn.Sequential()
        self.network.add_module("stem", nn.Conv2d(1, 8, 3))
        self.network.add_module("detour", ThroughNumpy())
        self.network.add_module("last", nn.Conv2d(8, 10, 6))

    def forward(self, images):
        return self.network(images).flatten(1)

    def training_step(self, batch, batch_idx):
        images, labels = batch
        return nn.functional.cross_entropy(self(images), labels)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class ThroughNumpy(nn.Module):
    def forward(self, images):
        return torch.from_numpy(images.detach().numpy().copy())


def test_a_network_that_cannot_be_traced(tmp_path):
    callbacks = compress_to(ModelBudget(macs="50%"), settings=setting.settings())
    data = setting.data().train_dataloader()
    message = r"network must have channels that can be removed.*stem: it is not on a traced way"
    refused(tmp_path, callbacks, message, module=Untraceable(), data=data)


def test_data_without_a_batch(tmp_path):
    class Nothing(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(())

    callbacks = compress_to(ModelBudget(macs="50%"), settings=setting.settings())
    message = "training data must hold at least one batch, got none"
    data = DataLoader(Nothing(), batch_size=4)
    refused(tmp_path, callbacks, message, module=Untraceable(), data=data)


class Given(ImageSource):
    """As many images as there are labels, all zero."""

    name = "given"

    def __init__(self, labels):
        self.labels = torch.tensor(labels, dtype=torch.long)

    def load(self):
        images = torch.zeros(len(self.labels), 1, 8, 8, dtype=torch.uint8)
        return LabelledImages(
            train_images=images,
            train_labels=self.labels,
            test_images=images,
            test_labels=self.labels,
        )


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "the training part of given must have images, got none"),
        ([3] * 40, "the training part of given must have at least 2 classes, got only class 3"),
    ],
    ids=["empty", "one class"],
)
def test_data_with_nothing_to_learn(tmp_path, labels, message):
    trainer = setting.trainer(tmp_path, [NoStep(), *setting.callbacks()])
    with pytest.raises(ValueError, match=message):
        trainer.fit(setting.module(), datamodule=ImageData(Given(labels)))


class NanFrom(pl.Callback):
    """Breaks the network at the start of one epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == self.epoch:
            with torch.no_grad():
                next(pl_module.network.parameters()).fill_(float("nan"))


def test_nan_during_recovery_leaves_the_last_good_checkpoint(tmp_path):
    saving = ModelCheckpoint(dirpath=tmp_path, filename="last", enable_version_counter=False)
    callbacks = [NanFrom(4), *setting.callbacks(), saving]
    trainer = setting.trainer(tmp_path, callbacks, enable_checkpointing=True)
    message = r"the training loss must stay finite, got nan in epoch 4 \(phase recover\); lower"
    with pytest.raises(ValueError, match=message):
        trainer.fit(setting.module(), datamodule=setting.data())
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["epoch"] == 3
    assert all(bool(torch.isfinite(value).all()) for value in saved["state_dict"].values())

    module, callbacks = setting.module(), [*setting.callbacks(), saving]
    setting.trainer(tmp_path, callbacks, enable_checkpointing=True).fit(
        module, datamodule=setting.data(), ckpt_path=tmp_path / "last.ckpt"
    )
    callbacks.pop()
    assert callbacks[-1].stop_reason.startswith("model budget kept")


def test_a_fit_shorter_than_the_schedule(tmp_path):
    schedule = PruningSchedule(warmup_epochs=2, num_steps=2, recover_epochs=3)
    pruning = GlobalRankingPruning(ModelBudget(macs="50%"), schedule=schedule)
    message = "max_epochs must be >= 6, where the pruning schedule ends, got 5; raise it"
    refused(tmp_path, [pruning], message, max_epochs=5)


def test_a_guard_without_a_dense_network_to_compare_with():
    guard = MetricGuard(metric="val/accuracy", max_drop=0.1)
    with pytest.raises(ValueError, match="warmup_epochs must be >= 1 where a guard compares with"):
        GlobalRankingPruning(
            ModelBudget(macs="50%"), schedule=PruningSchedule(warmup_epochs=0), guard=guard
        )


def test_a_word_for_distillation():
    with pytest.raises(ValueError, match="distillation must be a Distillation, 'auto' or None, go"):
        GlobalRankingPruning(ModelBudget(macs="50%"), distillation="yes")


def test_sharded_parameters():
    """Without a GPU Lightning makes no Trainer with FSDP: the callbacks are asked directly."""
    trainer = SimpleNamespace(strategy=FSDPStrategy(), callbacks=[], max_epochs=100)
    message = "strategy must keep whole parameters .* got FSDPStrategy"
    for callback in setting.callbacks()[1:3]:
        with pytest.raises(ValueError, match=message):
            callback.setup(trainer, setting.module(), "fit")


def test_pruning_is_not_begun_on_batches_that_the_default_loss_cannot_judge(tmp_path):
    """Regression by name: the remedy is the argument ``loss``."""

    class Regression(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.network = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1))

        def forward(self, inputs):
            return self.network(inputs)

        def training_step(self, batch, batch_idx):
            return nn.functional.mse_loss(self(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.01)

    data = DataLoader(TensorDataset(torch.randn(32, 4), torch.randn(32, 1)), batch_size=8)
    module = Regression()
    callbacks = compress_to(ModelBudget(macs="50%"), settings=setting.settings())
    with (
        pytest.warns(UserWarning, match="the ranking is learned on a part of the training data"),
        pytest.raises(ValueError, match="loss must be given for networks that do not classify"),
    ):
        setting.trainer(tmp_path, callbacks).fit(module, data)
    assert lineage_of(module.network) == ()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_quantisation_that_begins_before_the_channels_are_gone(tmp_path, order):
    both = [QuantizationAwareTraining(start=3), setting.callbacks()[1]]
    message = r"start must be >= 6, .* GlobalRankingPruning is at work until then, got 3"
    refused(tmp_path, [both[index] for index in order], message)


def test_pruning_of_a_network_that_is_prepared_for_quantisation(tmp_path):
    module, example = setting.module(), torch.randn(2, 1, 8, 8)
    apply_change(module.network, plan_quantization(module.network, example))
    calibrate(module.network, [example])
    message = r"network must be pruned before it is prepared for quantisation, got .*; prune a netw"
    refused(tmp_path, [setting.callbacks()[1]], message, module=module)
