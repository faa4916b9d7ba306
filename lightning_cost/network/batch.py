"""What a training batch holds, whatever its form."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor


def first_tensor(batch: Any) -> Tensor | None:
    """The first tensor with a dimension in nested lists, tuples and mappings, if there is one.

    It runs at every step, when little of it is in the cache: the usual forms come first.

    >>> import torch
    >>> first_tensor({"text": "a", "pair": (torch.zeros(3, 2), torch.zeros(3))}).shape
    torch.Size([3, 2])
    """
    if isinstance(batch, Tensor):
        return batch if batch.dim() > 0 else None
    if isinstance(batch, (list, tuple)):
        entries: Iterable[Any] = batch
    elif isinstance(batch, Mapping):
        entries = batch.values()
    else:
        return None
    for entry in entries:
        found = first_tensor(entry)
        if found is not None:
            return found
    return None


def num_samples_of(batch: Any) -> int:
    """Samples in a batch: the first dimension of its first tensor.

    Raises:
        ValueError: If the batch holds no tensor with a dimension.

    >>> import torch
    >>> num_samples_of([torch.zeros(8, 3), torch.zeros(8)])
    8
    """
    found = first_tensor(batch)
    if found is None:
        raise ValueError(
            f"a batch must hold a tensor with samples in dimension 0, got {type(batch).__name__} "
            "without one; give tensors in tuples, lists or mappings"
        )
    return found.shape[0]
