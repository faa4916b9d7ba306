import copy
import itertools

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.callbacks import Callback
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_cost.network.checkpoint import load_compressed
from lightning_cost.network.deploy import deployed_copy
from lightning_cost.network.lineage import lineage_of
from lightning_cost.network.participants import StructuralCallback
from lightning_cost.quantization.callback import QuantizationAwareTraining
from lightning_cost.quantization.fake_quantizers import activation_fake_quantizers
from lightning_cost.quantization.prepare import is_prepared
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


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("stop", [1, 2, 3])
def test_resumed_run_is_bit_identical(tmp_path, optimizer, stop):
    def run(max_epochs, checkpoint=None):
        module = Classifier(optimizer)
        trainer = trainer_with(QuantizationAwareTraining(start=1, epochs=2), max_epochs=max_epochs)
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


def test_phase_and_protocol():
    quantization = QuantizationAwareTraining(start=0, epochs=1)
    assert isinstance(quantization, StructuralCallback)
    assert quantization.phase is None
    quantization.load_state_dict({"is_begun": True, "is_frozen": False, "num_epochs_done": 0})
    assert quantization.phase == "quantize"
    quantization.load_state_dict({"is_begun": True, "is_frozen": True, "num_epochs_done": 1})
    assert quantization.phase is None
    assert quantization.is_finished


def test_preview_is_what_is_deployed():
    network, x = small_network(), digits()[0][:1]
    quantization = QuantizationAwareTraining(exclude=["0"])
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
        ({"epochs": 0}, r"epochs must be >= 1, got 0"),
        ({"freeze_after": 1.5}, r"freeze_after must be in \[0, 1\], got 1.5"),
    ],
)
def test_bad_arguments(settings, message):
    with pytest.raises(ValueError, match=message):
        QuantizationAwareTraining(**settings)


def test_unknown_exclude_is_an_error_of_the_fit():
    quantization = QuantizationAwareTraining(start=0, exclude=["stem"])
    with pytest.raises(ValueError, match=r"exclude must name modules of the network, got 'stem'"):
        trainer_with(quantization, max_epochs=1).fit(Classifier(), loader(128))
