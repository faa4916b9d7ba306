import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_cost.cost.forward import run_forward
from lightning_cost.network.example import capture_batches, capture_example

IMAGES = torch.arange(24.0).reshape(6, 4)
LABELS = torch.tensor([0, 1, 0, 1, 0, 1])


class Module(pl.LightningModule):
    """Doubles its inputs before they enter the network."""

    def __init__(self, network: nn.Module | None = None) -> None:
        super().__init__()
        self.network = nn.Linear(4, 2) if network is None else network

    def forward(self, inputs: Tensor) -> Tensor:
        return self.network(2 * inputs)

    def training_step(self, batch, batch_idx):
        inputs, labels = batch
        return nn.functional.cross_entropy(self(inputs), labels)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Capture(pl.Callback):
    def __init__(self, path: str | None = None) -> None:
        self.path = path

    def on_fit_start(self, trainer, pl_module):
        self.example = capture_example(trainer, pl_module, self.path)


def fit(module: pl.LightningModule, loader, *callbacks: pl.Callback, **options) -> None:
    pl.Trainer(
        max_epochs=1,
        limit_train_batches=2,
        accelerator="cpu",
        devices=1,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    ).fit(module, loader)


def captured(module: pl.LightningModule, loader, path: str | None = None) -> Capture:
    capture = Capture(path)
    fit(module, loader, capture)
    return capture


def pairs(**options) -> DataLoader:
    return DataLoader(TensorDataset(IMAGES, LABELS), batch_size=3, **options)


def test_it_is_one_sample_as_it_enters_the_network():
    assert torch.equal(captured(Module(), pairs()).example, 2 * IMAGES[:1])


@pytest.mark.parametrize("given", [None, IMAGES])
@pytest.mark.parametrize(
    ("precision", "dtype"),
    [
        ("bf16-true", torch.bfloat16),
        ("64-true", torch.float64),
        ("bf16-mixed", torch.float32),
    ],
)
def test_it_is_in_the_precision_of_the_batches(precision, dtype, given):
    module, capture = Module(), Capture()
    module.example_input_array = given
    fit(module, pairs(), capture, precision=precision)
    assert capture.example.dtype == module.network.weight.dtype == dtype
    assert torch.equal(capture.example.float(), 2 * IMAGES[:1])


def test_training_in_random_order_is_the_same_with_and_without_it():
    trained = []
    for callbacks in ((), (Capture(),)):
        torch.manual_seed(0)
        module = Module()
        fit(module, pairs(shuffle=True), *callbacks)
        trained.append(module.network.weight.detach())
    assert torch.equal(*trained)


def test_network_and_modes_are_left_as_they_were():
    class Check(pl.Callback):
        def on_train_start(self, trainer, pl_module):
            pl_module.network[0].eval()
            before = {name: value.clone() for name, value in pl_module.state_dict().items()}
            capture_example(trainer, pl_module)
            assert all(
                torch.equal(before[name], value) for name, value in pl_module.state_dict().items()
            )
            assert [part.training for part in pl_module.network.modules()] == [True, False, True]
            assert not pl_module.network._forward_pre_hooks
            self.is_checked = True

    check = Check()
    fit(Module(nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2))), pairs(), check)
    assert check.is_checked


def test_example_input_array_goes_first():
    module = Module()
    module.example_input_array = torch.ones(5, 4)
    assert torch.equal(captured(module, pairs()).example, torch.full((1, 4), 2.0))


def test_keyword_arguments_come_as_a_dict():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, images, scale=1.0):
            return self.layer(images) * scale

    class Calls(Module):
        def forward(self, inputs):
            return self.network(inputs, scale=3.0)

    module = Calls(Named())
    example = captured(module, pairs()).example
    assert set(example) == {"images", "scale"}
    assert torch.equal(example["images"], IMAGES[:1])
    assert run_forward(module.network, example).shape == (1, 2)


def test_several_arguments_come_as_a_tuple():
    class Calls(Module):
        def forward(self, inputs):
            return self.network(inputs, 3 * inputs)

    module = Calls(nn.Bilinear(4, 4, 2))
    first, second = captured(module, pairs()).example
    assert torch.equal(first, IMAGES[:1])
    assert torch.equal(second, 3 * IMAGES[:1])


def test_a_module_without_forward_gives_the_batch_itself():
    class Bare(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.network = nn.Linear(4, 2)

        def training_step(self, batch, batch_idx):
            return self.network(batch[0]).sum()

        configure_optimizers = Module.configure_optimizers

    assert torch.equal(captured(Bare(), pairs()).example, IMAGES[:1])


def test_the_whole_module_takes_the_batch_itself():
    assert torch.equal(captured(Module(), pairs(), "self").example, IMAGES[:1])


def test_dict_batches():
    class Dicts(Module):
        def forward(self, inputs, labels):
            return self.network(inputs)

        def training_step(self, batch, batch_idx):
            return nn.functional.cross_entropy(self(**batch), batch["labels"])

    rows = [{"inputs": image, "labels": label} for image, label in zip(IMAGES, LABELS, strict=True)]
    example = captured(Dicts(), DataLoader(rows, batch_size=3)).example
    assert torch.equal(example, IMAGES[:1])


def test_data_without_a_batch():
    class Empty(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(())

    with pytest.raises(ValueError, match="training data must hold at least one batch, got none"):
        captured(Module(), DataLoader(Empty(), batch_size=3))


class Sum(nn.Module):
    """Takes two rows, or a list of them."""

    def __init__(self, form):
        super().__init__()
        self.layer = nn.Linear(4, 2)
        self.forward = {"two": self.of_two, "any": self.of_any, "list": self.of_list}[form]

    def of_two(self, left, right):
        return self.layer(left) + self.layer(right)

    def of_any(self, *rows):
        return self.of_two(*rows)

    def of_list(self, rows):
        return self.of_two(rows[0], rows[1])


class OnPairs(Module):
    """Calls the network on what a sample's tuple became in the loader."""

    def __init__(self, form):
        super().__init__(Sum(form))
        self.form = form

    def training_step(self, batch, batch_idx):
        rows, labels = batch
        logits = self.network(rows) if self.form == "list" else self.network(*rows)
        return nn.functional.cross_entropy(logits, labels)

    forward = pl.LightningModule.forward


class Forwarding(OnPairs):
    def forward(self, *args):
        return self.network(*args)


@pytest.mark.parametrize("form", ["two", "any", "list"])
@pytest.mark.parametrize("kind", [OnPairs, Forwarding])
def test_inputs_that_a_loader_made_a_list_of(kind, form):
    samples = [((image, -image), label) for image, label in zip(IMAGES, LABELS, strict=True)]
    module = kind(form)
    capture = captured(module, DataLoader(samples, batch_size=2))
    assert run_forward(module.network, capture.example).shape == (1, 2)
    assert torch.equal(
        run_forward(module.network, capture.example),
        module.network.of_two(IMAGES[:1], -IMAGES[:1]),
    )


class OfDicts(Module):
    """Takes apart in ``training_step`` what its ``forward`` does not take."""

    def training_step(self, batch, batch_idx):
        pair = batch.get("both", batch)
        return nn.functional.cross_entropy(self(pair["image"]), pair["label"])


class WithoutIndex(OfDicts):
    def training_step(self, batch):
        return super().training_step(batch, 0)


def of_dicts():
    samples = [{"image": i, "label": n} for i, n in zip(IMAGES, LABELS, strict=True)]
    return DataLoader(samples, batch_size=2)


@pytest.mark.parametrize("kind", [OfDicts, WithoutIndex])
def test_what_forward_does_not_take_is_caught_in_the_training_step(kind):
    assert torch.equal(captured(kind(), of_dicts()).example, 2 * IMAGES[:1])


def test_several_loaders():
    module = OfDicts()
    assert torch.equal(captured(module, {"both": of_dicts()}).example, 2 * IMAGES[:1])

    class Calibrating(pl.Callback):
        def on_fit_start(self, trainer, pl_module):
            self.batches = capture_batches(trainer, pl_module, None, 4)

    calibrating = Calibrating()
    fit(module, {"both": of_dicts(), "more": of_dicts()}, calibrating)
    assert torch.equal(torch.cat(calibrating.batches), 2 * IMAGES[:4])


def test_what_nothing_takes_is_refused_with_what_to_do():
    module = OfDicts()
    module.automatic_optimization = False
    said = r"first part of a batch must be what forward of OfDicts takes, got a dict of 'image', "
    with pytest.raises(ValueError, match=said + r".*; set example_input_array"):
        captured(module, of_dicts())
