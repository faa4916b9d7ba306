"""What another one reads of the training data, the fit still gets."""

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import HalfPrecision, Precision
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lightning_cost.network.loader import (
    apart_from_fit,
    first_epoch_batches,
    held_out_data,
    training_samples,
)
from lightning_cost.zoo.batches import EpochShuffle

DATA = TensorDataset(torch.arange(12))


class Stream(IterableDataset):
    def __iter__(self):
        return iter(torch.arange(12))


@pytest.mark.parametrize(
    "make",
    [
        lambda **how: DataLoader(DATA, batch_size=4, **how),
        lambda **how: DataLoader(DATA, batch_size=5, drop_last=True, **how),
        lambda **how: DataLoader(DATA, batch_size=None, **how),
        lambda **how: DataLoader(Stream(), batch_size=4, **how),
    ],
)
def test_the_same_batches_from_an_iterator_of_its_own(make):
    loader = make(num_workers=1, persistent_workers=True)
    expected = [torch.as_tensor(b[0] if isinstance(b, (list, tuple)) else b) for b in make()]
    fit = iter(loader)
    first = next(fit)
    beside = [b[0] if isinstance(b, (list, tuple)) else b for b in apart_from_fit(loader)]
    rest = [b[0] if isinstance(b, (list, tuple)) else b for b in [first, *fit]]
    assert all(torch.equal(*pair) for pair in zip(beside, expected, strict=True))
    assert all(torch.equal(*pair) for pair in zip(rest, expected, strict=True))


def test_what_shares_no_iterator_is_left_as_it_is():
    for loader in (DataLoader(DATA), [1, 2], None):
        assert apart_from_fit(loader) is loader


@pytest.mark.parametrize(
    "how", [{"sampler": EpochShuffle(12, seed=3)}, {"shuffle": True}, {"shuffle": False}]
)
def test_the_first_epoch_is_the_same_whatever_was_read_before(how):
    loader = DataLoader(DATA, batch_size=4, **how)
    found = []
    for epoch in range(3):
        if isinstance(loader.sampler, EpochShuffle):
            loader.sampler.set_epoch(epoch)
        for _ in loader:
            torch.rand(epoch + 1)
        before = torch.get_rng_state()
        found.append(torch.cat([batch for (batch,) in first_epoch_batches(loader, 8)]))
        assert torch.equal(torch.get_rng_state(), before)
    assert len(found[0]) == 8
    assert all(torch.equal(each, found[0]) for each in found)


class Doubling(pl.LightningModule):
    def transfer_batch_to_device(self, batch, device, dataloader_idx):
        return [2 * entry for entry in batch]


class Fit:
    """What is read of a Trainer."""

    def __init__(self, loader=None, datamodule=None):
        self.train_dataloader, self.datamodule = loader, datamodule
        self.precision_plugin = Precision()


def test_training_samples_are_in_the_trainers_precision():
    fit = Fit(DataLoader(TensorDataset(torch.ones(4, 2)), batch_size=2))
    fit.precision_plugin = HalfPrecision("bf16-true")
    (found,) = training_samples(fit, pl.LightningModule(), 4)
    assert found.dtype is torch.bfloat16


def test_training_samples_are_where_the_module_is():
    (found,) = training_samples(Fit(DataLoader(DATA, batch_size=5)), Doubling(), 7)
    assert torch.equal(found, 2 * torch.arange(7))
    (few,) = training_samples(Fit(DataLoader(DATA, batch_size=5)), Doubling(), 99)
    assert torch.equal(few, 2 * torch.arange(12))


def test_held_out_data_is_what_the_data_module_offers():
    class Offering(pl.LightningDataModule):
        def search_dataloader(self):
            return DATA

    assert held_out_data(Fit(datamodule=Offering())) is DATA
    for none in (Fit(), Fit(datamodule=pl.LightningDataModule())):
        assert held_out_data(none) is None
