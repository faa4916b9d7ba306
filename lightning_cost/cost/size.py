"""How many parameters a network has, and how many bytes its values take."""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from lightning_cost.cost.storage import storage_bytes, storage_key, storage_of

_COUNTERS = ("num_batches_tracked",)
_INTEGER_WEIGHTS = (torch.int8, torch.uint8)


@runtime_checkable
class HoldsPackedIntegers(Protocol):
    """A module with integers that are stored in fewer bits than their dtype has."""

    @property
    def stored_bits(self) -> Mapping[str, float]:
        """Bits of one element of each such tensor of its own; a multiple of 1/64."""


class Stored(NamedTuple):
    """A tensor that a network consists of.

    Args:
        name: In the network.
        tensor: As it lies in memory.
        bits: Of one element as it is stored.
    """

    name: str
    tensor: Tensor
    bits: float

    @property
    def num_bytes(self) -> float:
        """As it is stored; exact, and so not always a whole number."""
        return self.tensor.numel() * self.bits / 8


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

    Integers of fewer than 8 bits count as they are packed. Batch normalisation's
    ``num_batches_tracked`` serves training only and does not count.

    >>> size_bytes(nn.Linear(3, 4))
    64
    """
    return math.ceil(stored_bytes(network))


def stored_bytes(network: nn.Module) -> float:
    """:func:`size_bytes` before it is rounded up."""
    return sum(_held_by_dtype(named_stored(network)).values())


def loaded_bytes(network: nn.Module) -> int:
    """:func:`size_bytes` in the memory that it runs from, where integers take whole bytes."""
    loaded = (
        stored._replace(bits=8 * stored.tensor.element_size()) for stored in named_stored(network)
    )
    return math.ceil(sum(_held_by_dtype(loaded).values()))


def size_by_dtype(network: nn.Module) -> dict[str, int]:
    """The bytes of :func:`size_bytes` by the dtype that they lie in memory in, largest first.

    Memory that is seen as several dtypes counts under the first.

    >>> size_by_dtype(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2).half()))
    {'float32': 64, 'float16': 20}
    """
    sizes = _held_by_dtype(named_stored(network))
    ordered = sorted(sizes.items(), key=lambda entry: -entry[1])
    return {dtype: math.ceil(size) for dtype, size in ordered}


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


def named_stored(network: nn.Module) -> Iterator[Stored]:
    """What :func:`size_bytes` adds up."""
    packed = {
        f"{name}.{own}".lstrip("."): bits
        for name, module in network.named_modules()
        if isinstance(module, HoldsPackedIntegers)
        for own, bits in module.stored_bits.items()
    }
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if name.rpartition(".")[2] not in _COUNTERS:
            yield Stored(name, tensor, packed.get(name, 8 * tensor.element_size()))


def _held_by_dtype(tensors: Iterable[Stored]) -> dict[str, float]:
    """Exact bytes by dtype, shared storage once."""
    views: dict[Hashable, dict[tuple[object, ...], float]] = defaultdict(dict)
    capacity: dict[Hashable, int] = {}
    dtypes: dict[Hashable, str] = {}
    for stored in tensors:
        tensor = stored.tensor
        key, storage = storage_key(tensor), storage_of(tensor)
        view = (tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype)
        views[key][view] = stored.num_bytes
        capacity[key] = storage_bytes(storage)
        dtypes.setdefault(key, str(tensor.dtype).removeprefix("torch."))
    sizes: dict[str, float] = defaultdict(float)
    for key, parts in views.items():
        sizes[dtypes[key]] += min(capacity[key], sum(parts.values()))
    return sizes


def _is_integer_weight(buffer: Tensor) -> bool:
    is_bias = buffer.dtype == torch.int32 and buffer.dim() == 1
    return is_bias or (buffer.dtype in _INTEGER_WEIGHTS and buffer.dim() > 1)
