import copy
import dataclasses
import itertools

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.callbacks import Callback, StochasticWeightAveraging
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_cost.cost.resource import Resource
from lightning_cost.monitor.callback import CostMonitor
from lightning_cost.monitor.measure import measure
from lightning_cost.network.checkpoint import load_compressed
from lightning_cost.network.deploy import deployed_copy
from lightning_cost.network.distillation import Distillation
from lightning_cost.network.lineage import lineage_of
from lightning_cost.network.participants import StructuralCallback
from lightning_cost.quantization import callback
from lightning_cost.quantization.callback import QuantizationAwareTraining
from lightning_cost.quantization.fake_quantizers import activation_fake_quantizers
from lightning_cost.quantization.gradual import GradualRounding
from lightning_cost.quantization.norms import FoldableNorm
from lightning_cost.quantization.prepare import is_prepared
from lightning_cost.quantization.rules import QuantizationRules
from lightning_cost.quantization.terms import ChosenTerms
from lightning_cost.runtime.contract import get_runtime, installed_runtimes


def digits():
    images, labels = load_digits(return_X_y=True)
    images = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 8 - 1
    return images, torch.tensor(labels)


def small_network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128, 10),
    )


class Classifier(pl.LightningModule):
    def __init__(self, optimizer="sgd"):
        super().__init__()
        self.network = small_network()
        self.optimizer = optimizer

    def forward(self, x):
        return self.network(x)

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        if self.optimizer == "adam":
            return torch.optim.Adam(self.parameters(), lr=0.003)
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


class EpochShuffle(torch.utils.data.Sampler):
    """The same order in the same epoch, so that a resumed run sees what an unbroken one does."""

    def __init__(self, size):
        self.size, self.epoch = size, 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.epoch)
        yield from torch.randperm(self.size, generator=generator).tolist()

    def __len__(self):
        return self.size


def loader(size=1024):
    images, labels = digits()
    data = TensorDataset(images[:size], labels[:size])
    return DataLoader(data, batch_size=64, sampler=EpochShuffle(size))


def trainer_with(*callbacks, max_epochs, **settings):
    return pl.Trainer(
        max_epochs=max_epochs,
        callbacks=list(callbacks),
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )


class Other(Callback):
    """Another structural callback, finished after some epochs."""

    phase = None

    def __init__(self, epochs):
        self.epochs, self.is_finished = epochs, False

    def preview(self, network, example):
        return network

    def on_train_epoch_end(self, trainer, pl_module):
        self.is_finished = trainer.current_epoch + 1 >= self.epochs


class Witness(Callback):
    """Writes down what it sees at each epoch's end, standing before the others."""

    def __init__(self, watched):
        self.watched, self.rows = watched, []

    def on_train_epoch_end(self, trainer, pl_module):
        enabled = [
            bool(quantizer.observer_enabled)
            for quantizer in activation_fake_quantizers(pl_module.network).values()
        ]
        finished = self.watched.is_finished
        self.rows.append((is_prepared(pl_module.network), any(enabled), finished))


def accuracy(outputs, labels):
    return (torch.as_tensor(outputs).argmax(1) == labels).double().mean().item()


def test_trains_converts_and_runs(tmp_path):
    quantization = QuantizationAwareTraining(start=2, epochs=2)
    module, witness = Classifier(), Witness(quantization)
    trainer_with(witness, quantization, max_epochs=4).fit(module, loader())
    assert witness.rows == [
        (False, False, False),
        (False, False, False),
        (True, True, False),
        (True, False, True),
    ]
    images, labels = (tensor[1024:] for tensor in digits())
    deployed = deployed_copy(module.network, images[:1])
    expected = deployed(images)
    with torch.no_grad():
        assert torch.allclose(expected, module.eval()(images), atol=1e-5)
    assert accuracy(expected, labels) > 0.85
    for name in {"openvino", "onnxruntime"} & set(installed_runtimes()):
        with get_runtime(name).load(deployed, images, num_threads=1) as session:
            outputs = session.run(images)[0]
        agreement = accuracy(outputs, expected.argmax(1))
        assert agreement >= 0.995, name


KINDS = {
    "sgd": {},
    "adam": {"optimizer": "adam"},
    "flightnn": {"scheme": "flightnn", "overrides": {"3": {"name": "flightnn", "mean_terms": 1}}},
    "learned": {"scheme": "int4", "learns_scales": True, "observer": "learned"},
    "gradual": {"scheme": "power_of_two", "gradual": [0.5, 0.75, 0.875, 1]},
    "taught": {"scheme": "int4", "distillation": Distillation()},
}

RULES = {field.name for field in dataclasses.fields(QuantizationRules)}


# the first part of a fit that is gone on with, by a Trainer of fewer epochs
@pytest.mark.filterwarnings("ignore:quantisation will not begin")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stop", [1, 2, 3])
def test_resumed_run_is_bit_identical(tmp_path, kind, stop):
    settings = dict(KINDS[kind])
    optimizer = settings.pop("optimizer", "sgd")

    def run(max_epochs, checkpoint=None):
        module = Classifier(optimizer)
        rules = QuantizationRules(**{k: settings[k] for k in RULES & settings.keys()})
        others = {k: settings[k] for k in settings.keys() - RULES}
        quantization = QuantizationAwareTraining(start=1, epochs=2, rules=rules, **others)
        trainer = trainer_with(quantization, max_epochs=max_epochs)
        trainer.fit(module, loader(256), ckpt_path=checkpoint, weights_only=True)
        return trainer, module

    _, whole = run(4)
    trainer, _ = run(stop)
    trainer.save_checkpoint(tmp_path / "part.ckpt")
    resumed_trainer, resumed = run(4, tmp_path / "part.ckpt")
    assert whole.state_dict().keys() == resumed.state_dict().keys()
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert resumed_trainer.callbacks[0].is_finished


@pytest.mark.filterwarnings("ignore:quantisation will not begin")
@pytest.mark.parametrize("precision", ["bf16-true", "64-true"])
def test_resumed_run_in_another_precision_is_bit_identical(tmp_path, precision):
    def run(max_epochs, checkpoint=None):
        module, quantization = Classifier(), QuantizationAwareTraining("int4", start=1, epochs=3)
        trainer = trainer_with(quantization, max_epochs=max_epochs, precision=precision)
        trainer.fit(module, loader(256), ckpt_path=checkpoint, weights_only=True)
        return trainer, module.state_dict()

    _, whole = run(4)
    trainer, _ = run(2)
    trainer.save_checkpoint(tmp_path / "part.ckpt")
    _, resumed = run(4, tmp_path / "part.ckpt")
    assert {n: v.dtype for n, v in whole.items()} == {n: v.dtype for n, v in resumed.items()}
    # under 64-true Lightning reads weights into a network that is float32 still
    for name, value in whole.items() if precision == "bf16-true" else ():
        assert torch.equal(value, resumed[name]), name


@pytest.mark.parametrize(
    "other",
    [
        {"scheme": "power_of_two"},
        {"rules": QuantizationRules(observer="min_max")},
        {"rules": QuantizationRules(overrides={"3": "int8"})},
    ],
)
def test_another_scheme_is_refused_once_the_network_is_prepared(tmp_path, other):
    trainer = trainer_with(QuantizationAwareTraining("int4", start=1, epochs=2), max_epochs=2)
    trainer.fit(Classifier(), loader(128))
    trainer.save_checkpoint(tmp_path / "part.ckpt")

    def go_on(**settings):
        quantization = QuantizationAwareTraining(**{"scheme": "int4", **settings}, start=1)
        trainer_with(quantization, max_epochs=3).fit(
            Classifier(), loader(128), ckpt_path=tmp_path / "part.ckpt", weights_only=True
        )

    with pytest.raises(ValueError, match="scheme and rules must be those that the network was pr"):
        go_on(**other)
    go_on(rules=QuantizationRules(freeze_after=0.7))


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before")
def test_resumed_in_the_middle_of_an_epoch(tmp_path):
    class Saver(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if trainer.global_step == 6:
                trainer.save_checkpoint(tmp_path / "part.ckpt")

    def run(*callbacks, **settings):
        module, quantization = Classifier(), QuantizationAwareTraining(start=1, epochs=1)
        trainer = trainer_with(quantization, *callbacks, max_epochs=2)
        trainer.fit(module, loader(256), weights_only=True, **settings)
        return module, quantization

    whole, _ = run(Saver())
    resumed, quantization = run(ckpt_path=tmp_path / "part.ckpt")
    assert quantization.is_finished
    for name in ("num_observed", "observer_enabled"):
        found = [getattr(q, name) for q in activation_fake_quantizers(resumed).values()]
        expected = [getattr(q, name) for q in activation_fake_quantizers(whole).values()]
        assert found == expected


def test_zero_epochs_calibrate_alone():
    quantization = QuantizationAwareTraining(
        epochs=0, rules=QuantizationRules(calibration_samples=1024)
    )
    module, witness = Classifier(), Witness(quantization)
    float_module = Classifier()
    trainer_with(witness, quantization, max_epochs=2).fit(module, loader())
    trainer_with(max_epochs=2).fit(float_module, loader())
    assert witness.rows == [(False, False, False), (False, False, False)]
    assert quantization.is_finished
    assert not any(q.observer_enabled for q in activation_fake_quantizers(module).values())
    weight = module.network[3].parametrizations.weight.original
    assert torch.equal(weight, float_module.network[3].weight)
    images, labels = (tensor[1024:] for tensor in digits())
    with torch.no_grad():
        expected = float_module.network.eval()(images)
    deployed = deployed_copy(module.network, images[:1])
    assert accuracy(deployed(images), expected.argmax(1)) > 0.97
    assert accuracy(deployed(images), labels) > 0.8


class Ending(Callback):
    """Ends the fit with an epoch, as early stopping does."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_train_epoch_end(self, trainer, pl_module):
        trainer.should_stop = trainer.current_epoch == self.epoch


@pytest.mark.filterwarnings("ignore:the network was quantised when the fit had ended")
@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("settings", [{"max_epochs": 5}, {"max_epochs": -1, "max_steps": 20}])
def test_zero_epochs_calibrate_a_fit_that_ends_early(order, settings):
    quantization = QuantizationAwareTraining(epochs=0)
    module, ending = Classifier(), Ending(1 if "max_steps" not in settings else None)
    callbacks, monitor = [quantization, ending][:: 1 if order else -1], CostMonitor()
    trainer = trainer_with(monitor, *callbacks, **settings)
    trainer.fit(module, loader(512))
    assert trainer.global_step in (16, 20)
    assert quantization.is_finished
    assert is_prepared(module.network)
    assert monitor.cost == measure(module.network, digits()[0][:1])


def test_zero_epochs_that_never_come_are_told():
    quantization = QuantizationAwareTraining(epochs=0)
    with pytest.warns(UserWarning, match="the network is not quantised: the fit ended before"):
        trainer_with(quantization, Other(3), max_epochs=2).fit(Classifier(), loader(128))


def test_calibrated_state_is_that_before_training_with_rounding():
    quantization = QuantizationAwareTraining(start=1, epochs=1)
    module, float_module = Classifier(), Classifier()
    trainer_with(quantization, max_epochs=2).fit(module, loader(256))
    trainer_with(max_epochs=1).fit(float_module, loader(256))
    name = "3.parametrizations.weight.original"
    assert torch.equal(quantization.calibrated[name], float_module.network[3].weight)
    trained = copy.deepcopy(module.network)
    trained.load_state_dict(quantization.calibrated)
    assert not torch.equal(trained[3].weight, module.network[3].weight)


def test_batch_norms_are_live_until_frozen():
    class Statistics(Callback):
        def __init__(self):
            self.means = []

        def on_train_epoch_end(self, trainer, pl_module):
            self.means.append(pl_module.network[1].running_mean.clone())

    statistics, module = Statistics(), Classifier()
    quantization = QuantizationAwareTraining(
        start=1, epochs=3, rules=QuantizationRules(freeze_norms_after=0.6)
    )
    trainer_with(quantization, statistics, max_epochs=4).fit(module, loader(256))
    before, live, last, frozen = statistics.means
    assert not torch.equal(before, live)
    assert not torch.equal(live, last)
    assert torch.equal(last, frozen)


def test_a_learning_rate_for_normalised_networks_does_no_harm():
    class Fast(Classifier):
        def on_train_epoch_start(self):
            for group in self.optimizers().param_groups:
                group["lr"] = 0.05 if self.current_epoch < 3 else 0.3

    images, labels = (tensor[1024:] for tensor in digits())

    def accuracy_with(rules):
        module, quantization = Fast(), QuantizationAwareTraining(start=3, epochs=2, rules=rules)
        trainer_with(quantization, max_epochs=5).fit(module, loader())
        return accuracy(deployed_copy(module.network, images[:1])(images), labels)

    assert accuracy_with(QuantizationRules()) > 0.8
    assert accuracy_with(QuantizationRules(freeze_norms_after=0)) < 0.5


def test_a_teacher_changes_what_is_learned():
    def run(distillation):
        module = Classifier()
        quantization = QuantizationAwareTraining(
            "int4", start=1, epochs=1, distillation=distillation
        )
        trainer_with(quantization, max_epochs=2).fit(module, loader(256))
        return module.network[3].weight

    assert not torch.equal(run(None), run(Distillation(weight=1)))


def test_terms_stay_within_their_budget_in_every_step():
    class Terms(Callback):
        def __init__(self):
            self.means = []

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            found = [m for m in pl_module.modules() if isinstance(m, ChosenTerms)]
            self.means.append([float(each.num_terms.float().mean()) for each in found])

    terms = Terms()
    quantization = QuantizationAwareTraining(
        {"name": "flightnn", "mean_terms": 1.5}, start=0, epochs=1
    )
    trainer_with(quantization, terms, max_epochs=1).fit(Classifier(), loader(256))
    assert all(means == [1.5] for means in terms.means)


def test_gradual_quantisation_ends_with_every_weight_on_its_grid():
    class Shares(Callback):
        def __init__(self):
            self.found = []

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            masks = [m.is_rounded for m in pl_module.modules() if isinstance(m, GradualRounding)]
            self.found += [float(mask.float().mean()) for mask in masks[:1]]

    shares, module = Shares(), Classifier()
    quantization = QuantizationAwareTraining(
        "power_of_two",
        start=2,
        epochs=2,
        rules=QuantizationRules(gradual=[0.5, 0.75, 1], freeze_norms_after=0.75),
    )
    trainer_with(quantization, shares, max_epochs=4).fit(module, loader())
    assert list(dict.fromkeys(shares.found)) == [0.5, 0.75, 1]
    assert sorted(shares.found) == shares.found
    last = [m for m in module.network.modules() if isinstance(m, GradualRounding)]
    assert len(last) == 3
    assert all(each.is_rounded.all() for each in last)
    module.network.train()
    for layer in (module.network[0], module.network[3], module.network[7]):
        rounding = layer.parametrizations.weight[0].rounding
        on_grid = rounding(layer.parametrizations.weight.original)
        scale = on_grid.scale.reshape(-1, *[1] * (layer.weight.dim() - 1))
        assert torch.equal(on_grid.weight, on_grid.values * scale)
    images, labels = (tensor[1024:] for tensor in digits())
    assert accuracy(deployed_copy(module.network, images[:1])(images), labels) > 0.8


def test_load_compressed(tmp_path):
    module = Classifier()
    trainer = trainer_with(QuantizationAwareTraining(start=0, epochs=1), max_epochs=1)
    trainer.fit(module, loader(256))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    network = load_compressed(small_network(), tmp_path / "last.ckpt")
    x = digits()[0][:32]
    assert torch.equal(network(x), module.network.eval()(x))
    assert torch.equal(deployed_copy(network, x)(x), deployed_copy(module.network, x)(x))


@pytest.mark.parametrize("order", [0, 1])
def test_starts_when_the_others_are_finished(order):
    quantization = QuantizationAwareTraining(epochs=1)
    witness, callbacks = Witness(quantization), [quantization, Other(2)]
    if order:
        callbacks.reverse()
    trainer_with(witness, *callbacks, max_epochs=3).fit(Classifier(), loader(128))
    assert [is_prepared for is_prepared, _, _ in witness.rows] == [False, False, True]


def test_every_parameter_is_in_the_optimizer_and_moves():
    class Snapshot(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            self.held = set(
                itertools.chain(*(g["params"] for g in trainer.optimizers[0].param_groups))
            )
            self.before = copy.deepcopy(dict(pl_module.named_parameters()))

    snapshot, module = Snapshot(), Classifier()
    trainer_with(
        QuantizationAwareTraining(start=0, epochs=1), snapshot, max_epochs=1, limit_train_batches=1
    ).fit(module, loader(128))
    assert snapshot.held == set(module.parameters())
    for name, parameter in module.named_parameters():
        assert not torch.equal(parameter, snapshot.before[name]), name


def test_bfloat16_autocast():
    module = Classifier()
    trainer_with(
        QuantizationAwareTraining(start=0, epochs=1), max_epochs=1, precision="bf16-mixed"
    ).fit(module, loader(256))
    x = digits()[0][:8]
    assert torch.equal(deployed_copy(module.network, x)(x), module.network.eval()(x))


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("bf16-true", torch.bfloat16), ("16-true", torch.float16), ("64-true", torch.float64)],
)
def test_weights_in_another_precision(precision, dtype):
    module, monitor = Classifier(), CostMonitor()
    quantization = QuantizationAwareTraining(start=1, epochs=1)
    trainer_with(monitor, quantization, max_epochs=2, precision=precision).fit(module, loader(128))
    x = digits()[0][:8].to(dtype)
    assert torch.equal(deployed_copy(module.network, x)(x), module.network.eval()(x))
    found = monitor.dense[Resource.size_bytes].value / monitor.dense[Resource.params].value
    assert found == pytest.approx(dtype.itemsize, rel=0.02)


def test_phase_and_protocol():
    quantization = QuantizationAwareTraining(start=0, epochs=1)
    assert isinstance(quantization, StructuralCallback)
    assert quantization.phase is None
    empty = {"calibrated": None, "teacher": None, "bits": None, "limits": None}
    begun = {
        "is_begun": True,
        "is_frozen": False,
        "are_norms_frozen": False,
        "share_rounded": 0.0,
        "num_epochs_done": 0,
    }
    quantization.load_state_dict({**empty, **begun})
    assert quantization.phase == "quantize"
    quantization.load_state_dict({**empty, **begun, "is_frozen": True, "num_epochs_done": 1})
    assert quantization.phase is None
    assert quantization.is_finished


def test_preview_is_what_is_deployed():
    network, x = small_network(), digits()[0][:1]
    quantization = QuantizationAwareTraining(rules=QuantizationRules(exclude=["0"]))
    preview = quantization.preview(copy.deepcopy(network), x)
    assert isinstance(preview[0].weight, nn.Parameter)
    assert preview[3].stored_weight.values.dtype is torch.int8
    (change,) = lineage_of(preview)
    assert change.weights == ("3", "7")
    again = quantization.preview(copy.deepcopy(preview), x)
    assert torch.equal(again(x), preview(x))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scheme": "int9"}, r"scheme must be one of 'int8', .*, got 'int9'"),
        ({"start": -1}, r"start must be >= 0, got -1"),
        ({"epochs": -1}, r"epochs must be >= 0, got -1"),
        ({"runtimes": ["nope"]}, r"runtime must be one of eager, .*, got 'nope'; choose one"),
        ({"runtimes": ["executorch"]}, r"runtime must be one of eager, .*, got 'executorch'; choo"),
        ({"runtimes": "openvino"}, r"runtimes must be a list of names, got 'openvino'; write for"),
        ({"start": 1.5}, r"start must be a whole number, got 1.5; 8 is usual"),
        ({"start": True}, r"start must be a whole number, got True"),
        ({"epochs": "2"}, r"epochs must be a whole number, got '2'; 2 is usual"),
        ({"epochs": 2.5}, r"epochs must be a whole number, got 2.5; 2 is usual"),
    ],
)
def test_bad_arguments(settings, message):
    with pytest.raises(ValueError, match=message):
        QuantizationAwareTraining(**settings)


class Steps(Callback):
    """Counts training steps."""

    num_steps = 0

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.num_steps += 1


@pytest.mark.parametrize(
    ("scheme", "rules", "message"),
    [
        ("int8", {"exclude": ["stem"]}, r"exclude must name modules of the network, got 'stem'"),
        ("int4", {"overrides": {"nope*": "int8"}}, r"overrides must match layers .* got 'nope\*'"),
        (
            "flightnn",
            {"gradual": [0.5, 1]},
            "gradual must be empty where a scheme decides on terms",
        ),
    ],
)
def test_rules_that_do_not_fit_the_network_are_refused_before_the_first_step(
    scheme, rules, message
):
    quantization = QuantizationAwareTraining(scheme, start=1, rules=QuantizationRules(**rules))
    steps = Steps()
    with pytest.raises(ValueError, match=message):
        trainer_with(steps, quantization, max_epochs=3).fit(Classifier(), loader(128))
    assert steps.num_steps == 0


def test_a_start_after_the_end_is_told_before_the_first_step():
    quantization, steps = QuantizationAwareTraining(start=40), Steps()

    class Stop(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            assert steps.num_steps == 0
            trainer.should_stop = True

    with pytest.warns(UserWarning, match=r"will not begin: start is 40, .* max_epochs=6; raise"):
        trainer_with(steps, quantization, Stop(), max_epochs=6, limit_train_batches=1).fit(
            Classifier(), loader(64)
        )


@pytest.mark.parametrize("scheme", ["power_of_two_2", {"name": "flightnn", "mean_terms": 2}])
def test_sums_of_powers_keep_within_64_where_products_overflow(monkeypatch, scheme):
    network = small_network()
    with torch.no_grad():  # far apart, so that the finest steps are wanted
        network[3].weight.copy_(torch.tensor([96.0, 1.0, -1.0]).repeat(192).view(8, 8, 3, 3))
    for is_saturating in (False, True):
        monkeypatch.setattr(callback, "saturates", lambda runtime, found=is_saturating: found)
        quantization = QuantizationAwareTraining(
            scheme, rules=QuantizationRules(overrides={"3": scheme}), runtimes=["openvino"]
        )
        deployed = quantization.preview(copy.deepcopy(network), digits()[0][:1])
        assert (deployed[3].stored_weight.values.abs().max() <= 64) == is_saturating


@pytest.mark.parametrize("is_saturating", [False, True])
def test_seven_bits_where_the_products_of_a_runtime_overflow(monkeypatch, is_saturating):
    monkeypatch.setattr(
        callback, "saturates", lambda runtime: is_saturating and runtime == "openvino"
    )
    quantization = QuantizationAwareTraining(
        start=0, epochs=1, runtimes=["onnxruntime", "openvino"]
    )
    module = Classifier()
    trainer_with(quantization, max_epochs=1).fit(module, loader(64))
    (change,) = lineage_of(module.network)
    assert {scheme.reduced_range for scheme in change.schemes.values()} == {is_saturating}
    deployed = deployed_copy(module.network, digits()[0][:1])
    largest = max(int(layer.stored_weight.values.abs().max()) for layer in deployed[::3][:2])
    assert largest == (63 if is_saturating else 127)
    preview = quantization.preview(small_network(), digits()[0][:1])
    assert int(preview[0].stored_weight.values.abs().max()) == largest


class Stream(torch.utils.data.IterableDataset):
    """Batches of a number that nobody tells."""

    def __iter__(self):
        yield from loader(512)


@pytest.mark.parametrize("epochs", [1, 2])
def test_all_stands_still_at_the_end_of_batches_of_unknown_number(epochs):
    rules = QuantizationRules(gradual=[0.5, 1.0])
    training = QuantizationAwareTraining("int4", start=0, epochs=epochs, rules=rules)
    module = Classifier()
    trainer = trainer_with(training, max_epochs=epochs)
    loads = DataLoader(Stream(), batch_size=None)
    if epochs == 1:
        with pytest.warns(UserWarning, match="not known how many batches"):
            trainer.fit(module, loads)
    else:
        trainer.fit(module, loads)
    quantizers = activation_fake_quantizers(module.network).values()
    assert not any(each.observer_enabled for each in quantizers)
    norms = [each for each in module.network.modules() if isinstance(each, FoldableNorm)]
    assert norms
    assert all(norm.is_frozen for norm in norms)
    gradual = [each for each in module.network.modules() if isinstance(each, GradualRounding)]
    assert gradual
    assert all(each.is_rounded.all() for each in gradual)


def test_a_second_epoch_of_unknown_length_goes_by_the_first():
    training, parts = QuantizationAwareTraining(start=0, epochs=2), []
    advance = training._progress.advance
    training._progress.advance = lambda *given: (parts.append(given[2]), advance(*given))
    trainer_with(training, max_epochs=2).fit(Classifier(), DataLoader(Stream(), batch_size=None))
    assert parts == [0.0] * 8 + [step / 8 for step in range(8)] + [1.0]


def test_a_fit_that_is_much_longer_is_told_where_to_begin():
    with pytest.warns(UserWarning, match=r"is over after 1 of 3, .* set start=2, or epochs=3"):
        trainer_with(QuantizationAwareTraining(epochs=1), max_epochs=3).fit(
            Classifier(), loader(128)
        )


def test_what_fills_batch_norms_anew_is_refused():
    averaging = StochasticWeightAveraging(0.01, swa_epoch_start=1)
    trainer = trainer_with(QuantizationAwareTraining(start=1), averaging, max_epochs=3)
    with pytest.raises(ValueError, match="StochasticWeightAveraging must be left out"):
        trainer.fit(Classifier(), loader(128))


def test_synchronised_batch_norms_are_refused():
    """Lightning takes the setting on a GPU alone; here it is as if it had."""
    trainer = trainer_with(QuantizationAwareTraining(start=0), max_epochs=2)
    trainer.strategy._layer_sync = object()
    with pytest.raises(ValueError, match="sync_batchnorm must be False"):
        trainer.fit(Classifier(), loader(128))
