"""Looking at training data without disturbing the fit that reads it."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten
from torch.utils.data import DataLoader, IterableDataset

from lightning_cost.network.batch import first_samples, num_samples_of


def apart_from_fit(loader: Any) -> Any:
    """A loader of the same batches, whose iteration leaves that of the fit alone.

    A ``DataLoader`` with persistent workers has one iterator, which everybody who iterates over it
    shares; so it is rebuilt without workers. Of several loaders in a dict or list each batch holds
    one of each, until the first is over. Any other loader is returned as it is.
    """
    if isinstance(loader, (dict, list, tuple)) and all(
        isinstance(each, DataLoader) for each in tree_leaves(loader)
    ):
        return _Together(loader)
    if not isinstance(loader, DataLoader) or not loader.persistent_workers:
        return loader
    dataset, collate = loader.dataset, loader.collate_fn
    if isinstance(dataset, IterableDataset):
        return DataLoader(
            dataset, batch_size=loader.batch_size, drop_last=loader.drop_last, collate_fn=collate
        )
    if loader.batch_sampler is None:
        return DataLoader(dataset, batch_size=None, sampler=loader.sampler, collate_fn=collate)
    return DataLoader(dataset, batch_sampler=loader.batch_sampler, collate_fn=collate)


class _Together:
    """Batches of several loaders, in the collection that the loaders came in."""

    def __init__(self, loaders: Any) -> None:
        self._loaders, self._spec = tree_flatten(loaders)

    def __iter__(self) -> Iterator[Any]:
        for batches in zip(*map(apart_from_fit, self._loaders), strict=False):
            yield tree_unflatten(list(batches), self._spec)


def collect_batches(
    loader: Iterable[Any], num_samples: int, to_device: Callable[[Any], Any] = lambda batch: batch
) -> list[Any]:
    """The first batches of ``loader`` that together hold at least ``num_samples`` samples.

    The global random state is left as it was.

    Raises:
        ValueError: If ``loader`` has no batch.
    """
    with torch.random.fork_rng(devices=[]):
        batches: list[Any] = []
        held = 0
        for batch in islice(loader, num_samples):
            batches.append(to_device(batch))
            held += num_samples_of(batch)
            if held >= num_samples:
                break
    if not batches:
        raise ValueError(
            "the data must hold at least one batch, got none; give a data set that is not empty"
        )
    return batches


def training_samples(trainer: pl.Trainer, pl_module: pl.LightningModule, num_samples: int) -> Any:
    """One batch of the first ``num_samples`` training samples, or fewer, where the module is.

    Raises:
        ValueError: If there is no training data.
    """
    batches = collect_batches(apart_from_fit(trainer.train_dataloader), num_samples)
    return first_samples(
        [as_trained_on(batch, trainer, pl_module) for batch in batches], num_samples
    )


def as_trained_on(batch: Any, trainer: pl.Trainer, pl_module: pl.LightningModule) -> Any:
    """``batch`` in the precision and on the device in which ``trainer`` hands batches out."""
    converted = trainer.precision_plugin.convert_input(batch)
    return pl_module.transfer_batch_to_device(converted, pl_module.device, 0)


def held_out_data(trainer: pl.Trainer) -> Any:
    """What the DataModule offers that is not trained on, ``None`` if it does not.

    It does so by a method ``search_dataloader``.
    """
    offered = getattr(getattr(trainer, "datamodule", None), "search_dataloader", None)
    return None if offered is None else offered()


def first_epoch_batches(loader: Any, num_samples: int) -> list[Any]:
    """What :func:`collect_batches` gives at the very beginning of a fit, whenever it is asked.

    So a process that goes on with a fit, and has read other epochs or none, sees the same. The
    loader is left at its first epoch.

    Raises:
        ValueError: If ``loader`` has no batch.
    """
    for sampler in (getattr(loader, "sampler", None), getattr(loader, "batch_sampler", None)):
        for part in (sampler, getattr(sampler, "sampler", None)):
            begin = getattr(part, "set_epoch", None)
            if callable(begin):
                begin(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # a sampler that shuffles draws from it
        return collect_batches(loader, num_samples)
