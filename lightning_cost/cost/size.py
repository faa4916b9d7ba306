"""How many parameters a network has, and how many bytes its values take."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator

import torch
from torch import Tensor, nn

from lightning_cost.cost.storage import storage_bytes, storage_key, storage_of

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
    return sum(size_by_dtype(network).values())


def size_by_dtype(network: nn.Module) -> dict[str, int]:
    """The bytes of :func:`size_bytes` by the dtype that they are stored in, largest first.

    Memory that is seen as several dtypes counts under the first.

    >>> size_by_dtype(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2).half()))
    {'float32': 64, 'float16': 20}
    """
    views: dict[Hashable, dict[tuple[object, ...], int]] = defaultdict(dict)
    capacity: dict[Hashable, int] = {}
    dtypes: dict[Hashable, str] = {}
    for _, tensor in named_stored(network):
        key, storage = storage_key(tensor), storage_of(tensor)
        view = (tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype)
        views[key][view] = tensor.numel() * tensor.element_size()
        capacity[key] = storage_bytes(storage)
        dtypes.setdefault(key, str(tensor.dtype).removeprefix("torch."))
    sizes: Counter[str] = Counter()
    for key, parts in views.items():
        sizes[dtypes[key]] += min(capacity[key], sum(parts.values()))
    return dict(sizes.most_common())


def params_by_module(network: nn.Module) -> dict[str, int]:
    """What :func:`count_params` counts, by module, those of its children included.

    Shared parameters count in each module that has them, but once in what holds them all.

    >>> params_by_module(nn.Sequential(nn.Linear(3, 4), nn.ReLU()))
    {'': 16, '0': 16, '1': 0}
    """
    return {name: count_params(module) for name, module in network.named_modules()}


def size_by_module(network: nn.Module) -> dict[str, int]:
    """What :func:`size_bytes` adds up, by module, those of its children included.

    >>> size_by_module(nn.Sequential(nn.Linear(3, 4), nn.ReLU()))
    {'': 64, '0': 64, '1': 0}
    """
    return {name: size_bytes(module) for name, module in network.named_modules()}


def named_stored(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """What :func:`size_bytes` adds up, by name."""
    yield from network.named_parameters()
    for name, buffer in network.named_buffers():
        if name.rpartition(".")[2] not in _COUNTERS:
            yield name, buffer


def _is_integer_weight(buffer: Tensor) -> bool:
    is_bias = buffer.dtype == torch.int32 and buffer.dim() == 1
    return is_bias or (buffer.dtype in _INTEGER_WEIGHTS and buffer.dim() > 1)
