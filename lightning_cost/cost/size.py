"""How many parameters a network has, and how many bytes its values take."""

from collections import defaultdict
from collections.abc import Iterator

from torch import Tensor, nn

_COUNTERS = ("num_batches_tracked",)


def count_params(network: nn.Module) -> int:
    """The number of parameters, shared ones once.

    >>> count_params(nn.Linear(3, 4))
    16
    """
    return sum(parameter.numel() for parameter in network.parameters())


def size_bytes(network: nn.Module) -> int:
    """Bytes of the parameters and buffers as they are stored, shared storage once.

    Batch normalisation's ``num_batches_tracked`` serves training only and does not count.

    >>> size_bytes(nn.Linear(3, 4))
    64
    """
    views: dict[int, dict[tuple[object, ...], int]] = defaultdict(dict)
    capacity: dict[int, int] = {}
    for tensor in _stored_tensors(network):
        storage = tensor.untyped_storage()
        view = (tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype)
        views[storage._cdata][view] = tensor.numel() * tensor.element_size()
        capacity[storage._cdata] = storage.nbytes()
    return sum(min(capacity[key], sum(parts.values())) for key, parts in views.items())


def _stored_tensors(network: nn.Module) -> Iterator[Tensor]:
    yield from network.parameters()
    for name, buffer in network.named_buffers():
        if name.rpartition(".")[2] not in _COUNTERS:
            yield buffer
