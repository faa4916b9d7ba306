"""Labelled images in memory as a LightningDataModule, split into train, search, val and test."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from typing_extensions import override

from lightning_cost.zoo.augmentation import Augmentation
from lightning_cost.zoo.batches import EpochShuffle, ImageBatches, channel_statistics
from lightning_cost.zoo.seeding import generator_for
from lightning_cost.zoo.sources import ImageSource, get_source
from lightning_cost.zoo.splits import stratified_split

SPLITS = ("train", "search", "val", "test")


class ImageData(pl.LightningDataModule):
    """A source of images, held in memory, normalised by the statistics of its training part.

    ``search`` and ``val`` are stratified parts that training does not see: one to choose structures
    by, one to watch progress by. ``test`` is the official test part.

    Args:
        source: A data set, or the name of one in :data:`lightning_cost.zoo.sources.SOURCES`.
        batch_size: Images in a batch.
        seed: Decides the split, the order of each epoch and the augmentation.
        search_ratio: Share of the official training part that is held out for search.
        val_ratio: Share of it that is held out for validation.
        augmentation: Applied to training batches inside a Trainer; ``None`` for none.

    Raises:
        ValueError: If a number is out of range, or the source's name is unknown.
    """

    def __init__(
        self,
        source: ImageSource | str = "digits",
        *,
        batch_size: int = 128,
        seed: int = 0,
        search_ratio: float = 0.05,
        val_ratio: float = 0.05,
        augmentation: Augmentation | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size must be >= 1, got {batch_size}; give at least one image")
        for name, ratio in (("search_ratio", search_ratio), ("val_ratio", val_ratio)):
            if not 0 < ratio < 1:
                raise ValueError(f"{name} must be in (0, 1), got {ratio}; 0.05 is usual")
        self.source = get_source(source) if isinstance(source, str) else source
        self.name = self.source.name
        self.batch_size = batch_size
        self.seed = seed
        self.search_ratio = search_ratio
        self.val_ratio = val_ratio
        self.augmentation = augmentation
        self._parts: dict[str, ImageBatches] | None = None
        self._sha256 = ""

    @override
    def setup(self, stage: str | None = None) -> None:
        """Load and split the data, once.

        Raises:
            FileNotFoundError: If the data is not on this machine.
            ValueError: If it is damaged, empty or of a single class.
        """
        if self._parts is not None:
            return
        raw = self.source.load()
        _check_labels(raw.train_labels, self.source.name)
        num_samples = len(raw.train_labels)
        sizes = [max(1, round(num_samples * r)) for r in (self.search_ratio, self.val_ratio)]
        search, val, train = stratified_split(
            raw.train_labels, sizes, generator=generator_for(self.seed)
        )
        mean, std = channel_statistics(raw.train_images[train])
        self._parts = {
            name: ImageBatches(raw.train_images[index], raw.train_labels[index], mean=mean, std=std)
            for name, index in (("train", train), ("search", search), ("val", val))
        }
        self._parts["test"] = ImageBatches(raw.test_images, raw.test_labels, mean=mean, std=std)
        self._sha256 = raw.sha256

    @property
    def data_hash(self) -> str:
        """SHA-256 over all of the source's pixels and labels, before any split."""
        self.setup()
        return self._sha256

    @property
    def split_sizes(self) -> dict[str, int]:
        """Images in each of train, search, val and test."""
        return {name: len(self.part(name)) for name in SPLITS}

    @property
    def num_classes(self) -> int:
        """Classes in the training part: labels are 0 to this less one."""
        return int(self.part("train").labels.max()) + 1

    @property
    def in_channels(self) -> int:
        """Channels of an image."""
        return self.part("train").images.shape[1]

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of an image."""
        height, width = self.part("train").images.shape[2:]
        return height, width

    def part(self, name: str) -> ImageBatches:
        """The images of one of :data:`SPLITS`, loaded if they are not yet."""
        self.setup()
        assert self._parts is not None
        return self._parts[name]

    @override
    def train_dataloader(self) -> DataLoader[Any]:
        """Batches in an order that follows from the seed and the epoch."""
        train = self.part("train")
        return self._loader(train, sampler=EpochShuffle(len(train), seed=self.seed))

    def search_dataloader(self) -> DataLoader[Any]:
        """Batches to compare structures by, in a fixed order."""
        return self._loader(self.part("search"))

    @override
    def val_dataloader(self) -> DataLoader[Any]:
        """Batches to watch progress by, in a fixed order."""
        return self._loader(self.part("val"))

    @override
    def test_dataloader(self) -> DataLoader[Any]:
        """Batches of the official test part, in a fixed order."""
        return self._loader(self.part("test"))

    @override
    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Augment a training batch, by draws that follow from the seed and the step."""
        if self.augmentation is None or self.trainer is None or not self.trainer.training:
            return batch
        images, labels = batch
        trainer = self.trainer
        generator = generator_for(
            self.seed, trainer.current_epoch, trainer.global_step, trainer.global_rank
        )
        train = self.part("train")
        background = -train.mean / train.std
        return self.augmentation.apply(images, background=background, generator=generator), labels

    def _loader(self, part: ImageBatches, sampler: Sampler[int] | None = None) -> DataLoader[Any]:
        # the generator keeps the loader from drawing on the global random state
        return DataLoader(
            part,
            batch_size=self.batch_size,
            sampler=sampler,
            collate_fn=_already_a_batch,
            generator=torch.Generator(),
        )


def _already_a_batch(batch: Any) -> Any:
    return batch


def _check_labels(labels: Tensor, name: str) -> None:
    if len(labels) == 0:
        raise ValueError(f"the training part of {name} must have images, got none; check its files")
    if bool((labels == labels[0]).all()):
        raise ValueError(
            f"the training part of {name} must have at least 2 classes, got only class "
            f"{int(labels[0])} in {len(labels)} images; there is nothing to tell apart"
        )
