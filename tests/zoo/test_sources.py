import gzip
import hashlib
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from lightning_cost.zoo import sources
from lightning_cost.zoo.sources import Cifar10, Digits, FashionMnist, get_source


def idx(array):
    """``array`` in the idx format, unsigned bytes."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


@pytest.fixture
def small_fashion(tmp_path, monkeypatch):
    """A folder of four small gzipped idx files whose hashes are taken for the right ones."""
    rng = np.random.default_rng(0)
    files = {}
    for part, num_images in (("train", 20), ("t10k", 10)):
        pixels = rng.integers(0, 256, (num_images, 28, 28), dtype=np.uint8)
        files[f"{part}-images-idx3-ubyte"] = pixels
        files[f"{part}-labels-idx1-ubyte"] = np.arange(num_images, dtype=np.uint8) % 10
    for name, array in files.items():
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
    hashes = {name: hashlib.sha256(idx(array)).hexdigest() for name, array in files.items()}
    monkeypatch.setattr(sources, "_FASHION_MNIST_SHA256", hashes)
    return tmp_path, files


def check_fashion(raw, files):
    np.testing.assert_array_equal(raw.train_images[:, 0], files["train-images-idx3-ubyte"])
    np.testing.assert_array_equal(raw.train_labels, files["train-labels-idx1-ubyte"])
    np.testing.assert_array_equal(raw.test_images[:, 0], files["t10k-images-idx3-ubyte"])
    np.testing.assert_array_equal(raw.test_labels, files["t10k-labels-idx1-ubyte"])
    assert raw.train_labels.dtype == torch.int64


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    data, raw = load_digits(), Digits().load()
    ours = torch.cat([raw.train_images, raw.test_images]).flatten(1).numpy()
    labels = torch.cat([raw.train_labels, raw.test_labels])
    assert sorted(map(tuple, ours)) == sorted(map(tuple, data.data))
    assert np.bincount(labels).tolist() == np.bincount(data.target).tolist()
    assert len(raw.test_labels) == 359
    assert Digits().load().sha256 == raw.sha256


def test_the_hash_notices_one_pixel():
    raw, other = Digits().load(), Digits().load()
    other.test_images[-1, 0, 7, 7] += 1
    assert other.sha256 != raw.sha256


def test_fashion_mnist_from_a_folder(small_fashion):
    folder, files = small_fashion
    check_fashion(FashionMnist(str(folder)).load(), files)


def test_fashion_mnist_unpacked_as_torchvision_lays_it_out(small_fashion, tmp_path):
    folder, files = small_fashion
    raw_folder = tmp_path / "root" / "FashionMNIST" / "raw"
    raw_folder.mkdir(parents=True)
    for path in folder.glob("*.gz"):
        (raw_folder / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    check_fashion(FashionMnist(str(tmp_path / "root")).load(), files)


DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")


@pytest.mark.skipif(
    not DEBIAN_FOLDER.is_dir(), reason="needs the Debian package dataset-fashion-mnist"
)
def test_the_debian_package_is_the_whole_of_fashion_mnist():
    raw = FashionMnist().load()
    assert raw.train_images.shape == (60_000, 1, 28, 28)
    assert torch.bincount(raw.train_labels).tolist() == [6_000] * 10
    assert torch.bincount(raw.test_labels).tolist() == [1_000] * 10


def test_missing_files_are_named_with_the_package_and_the_folder(tmp_path):
    message = (
        r"must hold Fashion-MNIST's train-images-idx3-ubyte\[\.gz\], got no such file; "
        r"install the Debian package dataset-fashion-mnist, give folder="
    )
    with pytest.raises(FileNotFoundError, match=message):
        FashionMnist(str(tmp_path)).load()


def test_another_data_set_in_the_same_format_is_refused(small_fashion):
    folder, files = small_fashion
    changed = files["train-labels-idx1-ubyte"].copy()
    changed[3] += 1
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(changed)))
    with pytest.raises(ValueError, match=r"train-labels-idx1-ubyte with SHA-256 [0-9a-f]{64}"):
        FashionMnist(str(folder)).load()


@pytest.mark.parametrize("length", [5, 300])
def test_a_cut_off_file_is_called_damaged(small_fashion, length):
    folder, _ = small_fashion
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz is damaged"):
        FashionMnist(str(folder)).load()


def test_a_file_that_is_no_gzip_is_called_damaged(small_fashion):
    folder, _ = small_fashion
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz is damaged"):
        FashionMnist(str(folder)).load()


@pytest.fixture
def torchvision(monkeypatch):
    """A stand-in for ``torchvision.datasets`` that gives what the real one gives."""

    class CIFAR10:
        def __init__(self, root, *, train, download):
            if not download and not Path(root, "cifar-10-batches-py").is_dir():
                raise RuntimeError("Dataset not found or corrupted.")
            num_images = 4 if train else 2
            self.data = np.arange(num_images * 32 * 32 * 3, dtype=np.uint32).astype(np.uint8)
            self.data = self.data.reshape(num_images, 32, 32, 3)
            self.targets = list(range(num_images))

    package, datasets = ModuleType("torchvision"), ModuleType("torchvision.datasets")
    datasets.CIFAR10 = CIFAR10
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", datasets)
    return SimpleNamespace(datasets=datasets)


def test_cifar10_has_channels_first(torchvision, tmp_path):
    raw = Cifar10(str(tmp_path), download=True).load()
    stored = torchvision.datasets.CIFAR10(tmp_path, train=True, download=True).data
    assert raw.train_images.shape == (4, 3, 32, 32)
    assert raw.test_labels.tolist() == [0, 1]
    np.testing.assert_array_equal(raw.train_images[1, 2], stored[1, :, :, 2])


def test_missing_cifar10_says_where_to_look(torchvision, tmp_path):
    message = r"must hold CIFAR-10 .*Dataset not found.*; give folder= where it is"
    with pytest.raises(FileNotFoundError, match=message):
        Cifar10(str(tmp_path)).load()


@pytest.mark.parametrize("source", [Cifar10(), FashionMnist("nowhere", download=True)])
def test_without_torchvision_the_extra_is_named(source, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'lightning-cost\[vision\]'"):
        source.load()


def test_unknown_names_list_the_known():
    with pytest.raises(ValueError, match=r"one of cifar10, digits, fashion_mnist, got 'mnist'"):
        get_source("mnist")
