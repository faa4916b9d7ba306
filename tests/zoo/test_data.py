import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from lightning_cost.zoo.augmentation import Augmentation
from lightning_cost.zoo.data import ImageData
from lightning_cost.zoo.sources import ImageSource, LabelledImages


class Numbered(ImageSource):
    """Images whose pixels are all their own number."""

    name = "numbered"

    def __init__(self, labels):
        self.labels = torch.tensor(labels, dtype=torch.int64)

    def load(self):
        images = torch.arange(len(self.labels), dtype=torch.uint8).view(-1, 1, 1, 1)
        images = images.expand(-1, 2, 3, 4).contiguous()
        return LabelledImages(
            train_images=images,
            train_labels=self.labels,
            test_images=images[:2] + 200,
            test_labels=self.labels[:2],
        )


def numbered_data(**settings):
    settings = {"batch_size": 8, "search_ratio": 0.1, "val_ratio": 0.2} | settings
    return ImageData(Numbered([0, 1, 2, 0] * 10), **settings)


def numbers(data, loader):
    """The numbers of the images that ``loader`` gives, in order."""
    train = data.part("train")
    return [
        round(float(image[0, 0, 0] * train.std[0] + train.mean[0]))
        for images, _ in loader
        for image in images
    ]


def test_parts_are_disjoint_and_make_up_the_official_training_part():
    data = numbered_data()
    train, search, val, test = (
        numbers(data, loader())
        for loader in (
            data.train_dataloader,
            data.search_dataloader,
            data.val_dataloader,
            data.test_dataloader,
        )
    )
    assert sorted(train + search + val) == list(range(40))
    assert test == [200, 201]
    assert data.split_sizes == {"train": 28, "search": 4, "val": 8, "test": 2}
    assert (data.num_classes, data.in_channels, data.image_size) == (3, 2, (3, 4))


def test_normalisation_uses_the_training_part_alone():
    data = numbered_data()
    own_numbers = torch.tensor(numbers(data, data.train_dataloader()), dtype=torch.float64)
    torch.testing.assert_close(data.part("val").mean.double(), own_numbers.mean().expand(2))
    images = torch.cat([images for images, _ in data.train_dataloader()])
    torch.testing.assert_close(images.mean(), torch.tensor(0.0), atol=1e-6, rtol=0)


def test_only_training_is_shuffled_and_the_seed_decides_all():
    def orders(seed):
        data = numbered_data(seed=seed)
        return numbers(data, data.train_dataloader()), numbers(data, data.val_dataloader())

    (train, val), again, other = orders(0), orders(0), orders(1)
    assert (train, val) == again
    assert train != sorted(train)
    assert val == sorted(val)
    assert other[0] != train
    assert sorted(other[1]) != sorted(val)


def test_the_hash_is_of_the_source_not_of_the_split():
    assert numbered_data(seed=0).data_hash == numbered_data(seed=1).data_hash
    assert numbered_data().data_hash != ImageData("digits").data_hash


def test_iterating_leaves_the_global_random_state():
    data = numbered_data()
    before = torch.get_rng_state()
    list(data.train_dataloader())
    assert torch.equal(torch.get_rng_state(), before)


class Recorder(pl.LightningModule):
    """Trains one parameter and keeps every batch that it saw."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen = []
        self.validated = []

    def training_step(self, batch, batch_idx):
        self.seen.append(batch[0].clone())
        return self.weight * batch[0].sum()

    def validation_step(self, batch, batch_idx):
        self.validated.append(batch[0].clone())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(data, max_epochs, folder, ckpt_path=None):
    recorder = Recorder()
    trainer = pl.Trainer(
        max_epochs=max_epochs,
        accelerator="cpu",
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    trainer.fit(recorder, datamodule=data, ckpt_path=ckpt_path)
    return recorder, trainer


def test_a_resumed_run_sees_the_batches_that_it_would_have_seen(tmp_path):
    augmentation = Augmentation(max_shift=1, flips=True)
    whole, _ = fit(numbered_data(augmentation=augmentation), 3, tmp_path / "whole")
    _, trainer = fit(numbered_data(augmentation=augmentation), 2, tmp_path / "first")
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    rest, _ = fit(
        numbered_data(augmentation=augmentation), 3, tmp_path / "rest", tmp_path / "two.ckpt"
    )
    assert len(rest.seen) == 4
    assert all(torch.equal(a, b) for a, b in zip(whole.seen[8:], rest.seen, strict=True))
    epochs = [torch.cat(whole.seen[start : start + 4]) for start in (0, 4, 8)]
    assert not torch.equal(epochs[0], epochs[1])


def test_training_alone_is_augmented(tmp_path):
    plain, _ = fit(numbered_data(), 1, tmp_path)
    augmented, _ = fit(numbered_data(augmentation=Augmentation(max_shift=1)), 1, tmp_path)
    assert not torch.equal(torch.cat(plain.seen), torch.cat(augmented.seen))
    assert torch.equal(torch.cat(plain.validated), torch.cat(augmented.validated))


def test_shifts_uncover_black(tmp_path):
    recorder, _ = fit(numbered_data(augmentation=Augmentation(max_shift=1)), 1, tmp_path)
    train = recorder.trainer.datamodule.part("train")
    pixels = torch.cat(recorder.seen) * train.std.view(-1, 1, 1) + train.mean.view(-1, 1, 1)
    for image in pixels.round().abs():
        assert len(set(image.flatten().tolist()) - {0.0}) <= 1


def test_an_empty_data_set_is_refused():
    with pytest.raises(ValueError, match=r"training part of numbered must have images, got none"):
        ImageData(Numbered([])).setup()


def test_a_single_class_is_refused():
    with pytest.raises(ValueError, match=r"at least 2 classes, got only class 4 in 10 images"):
        ImageData(Numbered([4] * 10)).setup()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, r"batch_size must be >= 1, got 0"),
        ({"search_ratio": 0.0}, r"search_ratio must be in \(0, 1\), got 0.0"),
        ({"val_ratio": 1.0}, r"val_ratio must be in \(0, 1\), got 1.0"),
        ({"source": "imagenet"}, r"source must be one of cifar10, digits, fashion_mnist"),
    ],
)
def test_refuses_impossible_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        ImageData(**settings)


def test_refuses_to_hold_out_everything():
    with pytest.raises(ValueError, match=r"sum to less than the 40 samples, got \[20, 20\]"):
        numbered_data(search_ratio=0.5, val_ratio=0.5).setup()
