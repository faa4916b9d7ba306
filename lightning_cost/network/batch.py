"""What a training batch holds, whatever its form."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

_PLAIN = (tuple, list)
_NO_TENSOR = frozenset({str, bytes, int, float, bool, type(None)})


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


def shapes_of(batch: Any) -> tuple[torch.Size, ...]:
    """Shapes of all tensors in nested lists, tuples and mappings, in their order.

    A nested tensor stands for how many tensors it holds, and those. It runs at every step, as
    :func:`first_tensor` does.

    >>> import torch
    >>> shapes_of({"text": "a", "pair": (torch.zeros(3, 2), torch.zeros(3))})
    (torch.Size([3, 2]), torch.Size([3]))
    """
    if type(batch) in _PLAIN:  # as most batches are, of tensors alone
        shapes = [entry.shape for entry in batch if type(entry) is Tensor and not entry.is_nested]
        if len(shapes) == len(batch):
            return tuple(shapes)
    found: list[torch.Size] = []
    _add_shapes(batch, found)
    return tuple(found)


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


def first_samples(batches: Sequence[Any], num_samples: int) -> Any:
    """One batch of the first ``num_samples`` samples of several, or fewer if there are not as many.

    Tensors of as many entries as the batch has samples are put together along dimension 0, all else
    is as in the first batch. Batches that do not fit together end the list before them.

    >>> batches = [(torch.zeros(2, 3), "a"), (torch.ones(2, 3), "a")]
    >>> images, word = first_samples(batches, 3)
    >>> images.shape, word
    (torch.Size([3, 3]), 'a')
    """
    joined = batches[0]
    for batch in batches[1:]:
        if num_samples_of(joined) >= num_samples:
            break
        try:
            joined = tree_map(_together(joined, batch), joined, batch)
        except (ValueError, RuntimeError):  # of another structure, or of other shapes
            break
    size = num_samples_of(joined)
    return tree_map(
        lambda entry: entry[:num_samples] if _is_of_samples(entry, size) else entry, joined
    )


def _add_shapes(batch: Any, found: list[torch.Size]) -> None:
    if isinstance(batch, Tensor):
        if batch.is_nested:
            found.append(torch.Size([batch.size(0)]))
            found.extend(part.shape for part in batch.unbind())
        else:
            found.append(batch.shape)
        return
    if isinstance(batch, Mapping):
        batch = batch.values()
    elif not isinstance(batch, (list, tuple)):
        return
    if not _NO_TENSOR.issuperset(map(type, batch)):  # which a long list of texts is through with
        for entry in batch:
            _add_shapes(entry, found)


def _together(first: Any, second: Any) -> Any:
    sizes = num_samples_of(first), num_samples_of(second)

    def join(entry: Any, more: Any) -> Any:
        is_joined = _is_of_samples(entry, sizes[0]) and _is_of_samples(more, sizes[1])
        return torch.cat([entry, more]) if is_joined else entry

    return join


def _is_of_samples(entry: Any, num_samples: int) -> bool:
    return isinstance(entry, Tensor) and entry.dim() > 0 and len(entry) == num_samples
