"""What a run must know of its data, whoever wrote the LightningDataModule."""

from typing import Any

import pytorch_lightning as pl
from torch import Tensor, nn

from lightning_cost.cost.forward import observing

_SPLITS = ("train", "search", "val", "test")


def has_split(data: pl.LightningDataModule, split: str) -> bool:
    """Whether ``data`` gives a loader of ``split``: train, search, val or test.

    >>> has_split(pl.LightningDataModule(), "val")
    False
    """
    name = f"{split}_dataloader"
    own, inherited = getattr(type(data), name, None), getattr(pl.LightningDataModule, name, None)
    return own is not None and own is not inherited


def first_images(data: pl.LightningDataModule) -> Tensor:
    """The images [N, C, H, W] of the first validation batch; sets ``data`` up.

    Raises:
        ValueError: If there is no validation part, or its batches are not (images, labels).
    """
    data.prepare_data()
    data.setup("fit")
    name = type(data).__name__
    if not has_split(data, "val"):
        raise ValueError(
            f"data must have a validation part to judge the network by, got {name} without "
            "val_dataloader(); add it"
        )
    batch: Any = next(iter(data.val_dataloader()), None)
    if not _is_labelled(batch):
        raise ValueError(
            "data must give batches of images [N, C, H, W] and labels [N], got "
            f"{_form(batch)} from val_dataloader() of {name}; change its collate_fn"
        )
    images: Tensor = batch[0]
    return images


def num_classes_of(network: nn.Module, images: Tensor) -> int:
    """How many logits ``network`` gives for each of ``images`` [N, C, H, W].

    Raises:
        ValueError: If it does not take the images, or does not return logits [N, classes].
    """
    shape = list(images.shape[1:])
    try:
        with observing(network):
            logits = network(images[:1])
    except RuntimeError as error:
        raise ValueError(
            f"model must take the data's images of shape {shape}, got: {error}; "
            "leave model.in_channels at null, or choose another network"
        ) from error
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        raise ValueError(
            f"model must return logits [N, classes] for images of shape {shape}, got "
            f"{_form(logits)}; wrap it in a module that does"
        )
    return logits.shape[1]


def facts_of(data: pl.LightningDataModule) -> dict[str, Any]:
    """Name, hash and split sizes for the report, as far as ``data`` tells."""
    sizes: dict[str, int] | None = getattr(data, "split_sizes", None)
    return {
        "name": getattr(data, "name", None) or type(data).__name__,
        "hash": getattr(data, "data_hash", None),
        "split_sizes": _counted(data) if sizes is None else sizes,
    }


def batches_of(data: pl.LightningDataModule, split: str) -> list[Any]:
    """All batches of ``split``, empty where ``data`` has none."""
    return list(getattr(data, f"{split}_dataloader")()) if has_split(data, split) else []


def _is_labelled(batch: Any) -> bool:
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        return False
    return all(isinstance(part, Tensor) for part in batch) and batch[0].dim() == 4


def _counted(data: pl.LightningDataModule) -> dict[str, int]:
    loaders = {
        split: getattr(data, f"{split}_dataloader")() for split in _SPLITS if has_split(data, split)
    }
    datasets: dict[str, Any] = {
        split: getattr(loader, "dataset", None) for split, loader in loaders.items()
    }
    return {split: len(part) for split, part in datasets.items() if hasattr(part, "__len__")}


def _form(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {list(value.shape)}"
    if isinstance(value, (tuple, list)):
        return f"{type(value).__name__} of {', '.join(map(_form, value)) or 'nothing'}"
    return "nothing" if value is None else type(value).__name__
