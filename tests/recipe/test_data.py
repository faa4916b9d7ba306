import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_cost.recipe.data import (
    batches_of,
    facts_of,
    first_images,
    has_split,
    num_classes_of,
)
from lightning_cost.zoo.data import ImageData


class Images(pl.LightningDataModule):
    """A data module as a user writes it: nothing but loaders."""

    def __init__(self, shape=(3, 4, 4)):
        super().__init__()
        self.shape = shape

    def setup(self, stage):
        images = torch.arange(10.0).reshape(10, 1).expand(10, 48).reshape(10, *self.shape)
        self.data = TensorDataset(images, torch.arange(10) % 2)

    def train_dataloader(self):
        return DataLoader(self.data, batch_size=4)

    def val_dataloader(self):
        return DataLoader(self.data, batch_size=5)


class Labelled(Images):
    """Gives its validation batches in another form."""

    def __init__(self, batch):
        super().__init__()
        self.batch = batch

    def val_dataloader(self):
        return [] if self.batch is None else [self.batch]


class TrainOnly(pl.LightningDataModule):
    def train_dataloader(self):
        return DataLoader(TensorDataset(torch.zeros(4, 3, 4, 4), torch.zeros(4)))


def test_splits_are_those_that_the_module_defines():
    found = {split: has_split(Images(), split) for split in ("train", "search", "val", "test")}
    assert found == {"train": True, "search": False, "val": True, "test": False}
    assert has_split(ImageData(), "search")


def test_the_first_batch_of_validation():
    images = first_images(Images())
    assert images.shape == (5, 3, 4, 4)
    assert images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]


def test_facts_of_a_plain_module():
    data = Images()
    data.setup("fit")
    expected = {"name": "Images", "hash": None, "split_sizes": {"train": 10, "val": 10}}
    assert facts_of(data) == expected


def test_facts_of_our_own():
    data = ImageData()
    expected = {"name": "digits", "hash": data.data_hash, "split_sizes": data.split_sizes}
    assert facts_of(data) == expected


def test_batches():
    data = Images()
    data.setup("fit")
    assert [len(labels) for _, labels in batches_of(data, "train")] == [4, 4, 2]
    assert batches_of(data, "test") == []


def test_classes_are_counted_from_logits_and_the_network_left_alone():
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(48, 7))
    before = network[0].running_mean.clone()
    assert num_classes_of(network, torch.ones(2, 3, 4, 4)) == 7
    assert network.training
    assert torch.equal(network[0].running_mean, before)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (TrainOnly(), r"must have a validation part .* got TrainOnly without val_dataloader\(\)"),
        (Images((48,)), r"got list of a tensor of shape \[5, 48\], a tensor of shape \[5\] from"),
        (Labelled(torch.zeros(2, 3, 4, 4)), r"got a tensor of shape \[2, 3, 4, 4\] from val_data"),
        (Labelled({"images": 1}), r"got dict from val_dataloader\(\) of Labelled; change its"),
        (Labelled(None), r"got nothing from val_dataloader\(\) of Labelled"),
    ],
)
def test_data_of_another_form(data, message):
    with pytest.raises(ValueError, match=message):
        first_images(data)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Conv2d(1, 2, 1), r"must take the data's images of shape \[3, 4, 4\], got: Given"),
        (
            nn.Conv2d(3, 2, 1),
            r"must return logits \[N, classes\] .* a tensor of shape \[1, 2,",
        ),
    ],
)
def test_a_network_that_does_not_fit_the_data(network, message):
    with pytest.raises(ValueError, match=message):
        num_classes_of(network, torch.zeros(2, 3, 4, 4))
