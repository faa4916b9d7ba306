"""Looking at training data without disturbing the fit that reads it."""

from typing import Any

from torch.utils.data import DataLoader, IterableDataset


def apart_from_fit(loader: Any) -> Any:
    """A loader of the same batches, whose iteration leaves that of the fit alone.

    A ``DataLoader`` with persistent workers has one iterator, which everybody who iterates over it
    shares; so it is rebuilt without workers. Any other loader is returned as it is.
    """
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
