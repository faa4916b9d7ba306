"""Where images come from: one class per data set, each giving the raw images and labels."""

import gzip
import hashlib
import importlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from lightning_cost.zoo.seeding import generator_for
from lightning_cost.zoo.splits import stratified_split


@dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """A data set as it is stored, in its official two parts.

    Args:
        train_images: uint8 [N, C, H, W].
        train_labels: Class of each training image, int64 [N].
        test_images: uint8 [M, C, H, W].
        test_labels: Class of each test image, int64 [M].
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor

    @cached_property
    def sha256(self) -> str:
        """A hash of every pixel and label, in hexadecimal."""
        digest = hashlib.sha256()
        for part in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(repr(tuple(part.shape)).encode())
            digest.update(part.contiguous().numpy().data)
        return digest.hexdigest()


class ImageSource(ABC):
    """A data set of small labelled images. Subclasses set ``name``."""

    name: ClassVar[str]

    @abstractmethod
    def load(self) -> LabelledImages:
        """Read all of it into memory.

        Raises:
            FileNotFoundError: If it is not on this machine; the message says how to get it.
            ValueError: If the files are damaged or hold something else.
        """


class Digits(ImageSource):
    """1,797 handwritten digits of 8x8 grey pixels, which scikit-learn carries.

    It has no official test part: a fifth is set aside, the same in every run. Nearly any network
    gets it right, so it shows that a run works, not that a method is good.
    """

    name = "digits"

    @override
    def load(self) -> LabelledImages:
        from sklearn.datasets import load_digits

        data = load_digits()
        images = torch.from_numpy(data.images.astype(np.uint8)).unsqueeze(1)
        labels = torch.from_numpy(data.target.astype(np.int64))
        test, train = stratified_split(labels, [len(labels) // 5], generator=generator_for(0))
        return LabelledImages(
            train_images=images[train],
            train_labels=labels[train],
            test_images=images[test],
            test_labels=labels[test],
        )


class FashionMnist(ImageSource):
    """70,000 pictures of clothes, 28x28 grey pixels.

    Args:
        folder: Where its four idx files are, plain or gzipped, directly or as torchvision lays them
            out. Where the Debian package ``dataset-fashion-mnist`` puts them, if left out.
        download: Let torchvision download into ``folder`` what is missing there.
    """

    name = "fashion_mnist"

    def __init__(self, folder: str | None = None, *, download: bool = False) -> None:
        self.folder = Path(folder).expanduser() if folder is not None else _DEBIAN_FOLDER
        self.download = download

    @override
    def load(self) -> LabelledImages:
        if self.download:
            torchvision = _torchvision_datasets(self.name)
            for is_train in (True, False):
                torchvision.FashionMNIST(str(self.folder), train=is_train, download=True)
        return LabelledImages(
            train_images=self._read("train-images-idx3-ubyte").reshape(-1, 1, 28, 28),
            train_labels=self._read("train-labels-idx1-ubyte").long(),
            test_images=self._read("t10k-images-idx3-ubyte").reshape(-1, 1, 28, 28),
            test_labels=self._read("t10k-labels-idx1-ubyte").long(),
        )

    def _read(self, file_name: str) -> Tensor:
        path = self._find(file_name)
        try:
            content = (
                gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            )
        except (EOFError, gzip.BadGzipFile) as error:
            raise ValueError(f"{path} is damaged ({error}); {self._remedy}") from error
        digest = hashlib.sha256(content).hexdigest()
        if digest != _FASHION_MNIST_SHA256[file_name]:
            raise ValueError(
                f"{path} must be Fashion-MNIST's {file_name} with SHA-256 "
                f"{_FASHION_MNIST_SHA256[file_name]} when unpacked, got {digest}; {self._remedy}"
            )
        # an idx file: 2 zero bytes, the type, the number of dimensions, then each as 4 bytes
        return torch.from_numpy(np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).copy())

    def _find(self, file_name: str) -> Path:
        for folder in (self.folder, self.folder / "FashionMNIST" / "raw"):
            for path in (folder / f"{file_name}.gz", folder / file_name):
                if path.is_file():
                    return path
        raise FileNotFoundError(
            f"{self.folder} must hold Fashion-MNIST's {file_name}[.gz], got no such file; "
            f"{self._remedy}"
        )

    @property
    def _remedy(self) -> str:
        return (
            "install the Debian package dataset-fashion-mnist, give folder= where the four idx "
            "files are, or let torchvision fetch them with folder= and download=true"
        )


class Cifar10(ImageSource):
    """60,000 photographs in 10 classes, 32x32 colour pixels, through torchvision.

    Args:
        folder: torchvision's root: the folder that holds ``cifar-10-batches-py``.
        download: Let torchvision download what is missing there.
    """

    name = "cifar10"

    def __init__(self, folder: str = "data", *, download: bool = False) -> None:
        self.folder = Path(folder).expanduser()
        self.download = download

    @override
    def load(self) -> LabelledImages:
        train_images, train_labels = self._read(is_train=True)
        test_images, test_labels = self._read(is_train=False)
        return LabelledImages(
            train_images=train_images,
            train_labels=train_labels,
            test_images=test_images,
            test_labels=test_labels,
        )

    def _read(self, *, is_train: bool) -> tuple[Tensor, Tensor]:
        torchvision = _torchvision_datasets(self.name)
        try:
            data = torchvision.CIFAR10(str(self.folder), train=is_train, download=self.download)
        except RuntimeError as error:
            raise FileNotFoundError(
                f"{self.folder} must hold CIFAR-10 as torchvision lays it out "
                f"(cifar-10-batches-py), got: {error}; give folder= where it is, or download=true"
            ) from error
        images = torch.from_numpy(np.ascontiguousarray(data.data.transpose(0, 3, 1, 2)))
        return images, torch.tensor(data.targets)


SOURCES: dict[str, type[ImageSource]] = {
    source.name: source for source in (Digits, FashionMnist, Cifar10)
}


def get_source(name: str) -> ImageSource:
    """The data set of that name, where it lies by default.

    Raises:
        ValueError: If no data set has that name.
    """
    if name not in SOURCES:
        known = ", ".join(sorted(SOURCES))
        raise ValueError(
            f"source must be one of {known}, got {name!r}; for other data give a "
            "LightningDataModule of your own"
        )
    return SOURCES[name]()


def _torchvision_datasets(name: str) -> ModuleType:
    try:
        return importlib.import_module("torchvision.datasets")
    except ImportError as error:
        raise ModuleNotFoundError(
            f"reading {name} this way needs torchvision, which does not import here ({error}); "
            "install it with: pip install 'lightning-cost[vision]'"
        ) from error


_DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")

# of the unpacked files: they are the same however they were compressed
_FASHION_MNIST_SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
