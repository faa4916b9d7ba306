"""A copy of a network that shares nothing with it, whatever its last forward pass left in it."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

Network = TypeVar("Network", bound=nn.Module)


def duplicated(network: Network, shared: Mapping[int, Any] | None = None) -> Network:
    """A deep copy of ``network``.

    ``copy.deepcopy`` refuses tensors that autograd has computed. A network holds some where it
    keeps what it saw as an attribute, or where a hook computes its weights before each pass, as
    ``torch.nn.utils.weight_norm`` does. The copy has the values, without their past.

    Args:
        network: Left as it is.
        shared: What is not copied, by its identity.

    >>> import torch
    >>> network = nn.Linear(1, 1)
    >>> network.seen = network(torch.zeros(1))
    >>> duplicated(network).seen.requires_grad
    False
    """
    memo = dict(shared or {})
    for tensor in _computed(network):
        memo.setdefault(id(tensor), tensor.detach().clone())
    return copy.deepcopy(network, memo)


def _computed(network: nn.Module) -> Iterator[Tensor]:
    """The tensors among the attributes of modules that are no leaves of a graph."""
    for module in network.modules():
        for value in [*vars(module).values(), *module.buffers(recurse=False)]:
            for leaf in tree_leaves(value):
                if isinstance(leaf, Tensor) and not leaf.is_leaf:
                    yield leaf
