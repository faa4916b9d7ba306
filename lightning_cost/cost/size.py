"""How many parameters a network has, and how many bytes its values take."""

from collections import defaultdict
from collections.abc import Iterator

import torch
from torch import Tensor, nn

_COUNTERS = ("num_batches_tracked",)
_INTEGER_WEIGHTS = (torch.int8, torch.uint8)


def count_params(network: nn.Module) -> int:
    """The number of parameters, shared ones once.

    Integer weights (8 bits) and biases (32 bits) of a quantised network are buffers, as no gradient
    reaches them; they count as the parameters that they were. Scales, zero points and running
    statistics do not count.

    >>> count_params(nn.Linear(3, 4))
    16
    """
    return sum(parameter.numel() for _, parameter in named_weights(network))


def named_weights(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """What :func:`count_params` counts, by name."""
    yield from network.named_parameters()
    for name, buffer in network.named_buffers():
        if _is_integer_weight(buffer):
            yield name, buffer


def size_bytes(network: nn.Module) -> int:
    """Bytes of the parameters and buffers as they are stored, shared storage once.

    Batch normalisation's ``num_batches_tracked`` serves training only and does not count.

    >>> size_bytes(nn.Linear(3, 4))
    64
    """
    views: dict[int, dict[tuple[object, ...], int]] = defaultdict(dict)
    capacity: dict[int, int] = {}
    for _, tensor in named_stored(network):
        storage = tensor.untyped_storage()
        view = (tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype)
        views[storage._cdata][view] = tensor.numel() * tensor.element_size()
        capacity[storage._cdata] = storage.nbytes()
    return sum(min(capacity[key], sum(parts.values())) for key, parts in views.items())


def named_stored(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """What :func:`size_bytes` adds up, by name."""
    yield from network.named_parameters()
    for name, buffer in network.named_buffers():
        if name.rpartition(".")[2] not in _COUNTERS:
            yield name, buffer


def _is_integer_weight(buffer: Tensor) -> bool:
    is_bias = buffer.dtype == torch.int32 and buffer.dim() == 1
    return is_bias or (buffer.dtype in _INTEGER_WEIGHTS and buffer.dim() > 1)
