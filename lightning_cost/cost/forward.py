"""One forward pass of a network on an example, leaving the network as it was found."""

import copy
import random
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence
from torch.utils._pytree import tree_leaves, tree_map

from lightning_cost.cost.failure import describe, raise_explained
from lightning_cost.cost.synchronisation import unsynchronised

Example: TypeAlias = Tensor | tuple[Any, ...] | dict[str, Any]
"""What one forward pass takes: a tensor, positional or keyword arguments; batch in dim 0."""


def run_forward(network: nn.Module, example: Example) -> Any:
    """The output of ``network`` for ``example``.

    An error of the network comes through with a note of what was tried.

    >>> run_forward(nn.Identity(), (torch.ones(1, 2),))
    tensor([[1., 1.]])

    Raises:
        TypeError: If ``example`` is neither a tensor nor a tuple nor a dict.
        ValueError: If the device, dtype or shape of ``example`` is not what ``network`` takes.
    """
    args, kwargs = call_arguments(example)
    try:
        return network(*args, **kwargs)
    except Exception as error:
        raise_explained(error, network, tensors_of(example), lambda: _trains(network, example))
        raise


def _trains(network: nn.Module, example: Example) -> bool:
    """Whether the network runs in training mode; it is left as it was found."""
    args, kwargs = call_arguments(with_batch_size(example, 2))
    with observing(network):
        try:
            network.train()(*args, **kwargs)
        except Exception:  # any: it does not run
            return False
    return True


def call_arguments(example: Example) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments of a call with ``example``.

    Raises:
        TypeError: If ``example`` is neither a tensor nor a tuple nor a dict.
    """
    if isinstance(example, (Tensor, PackedSequence)):
        return (example,), {}
    if isinstance(example, tuple):
        return example, {}
    if isinstance(example, dict):
        return (), example
    raise TypeError(
        "example must be a tensor, a tuple of positional arguments or a dict of keyword "
        f"arguments, got {type(example).__name__}; wrap it, as in (value,)"
    )


def tensors_of(tree: Any) -> list[Tensor]:
    """The tensors in nested tuples, lists, mappings and dataclasses, in order."""
    if isinstance(tree, Tensor):
        return [tree]
    tensors: list[Tensor] = []
    if type(tree) in (tuple, list):  # asked for at every operator: PyTorch's own walk is slow
        for branch in tree:
            if type(branch) not in _NO_TREES:
                tensors += tensors_of(branch)
        return tensors
    for leaf in tree_leaves(tree):
        if isinstance(leaf, Tensor):
            tensors.append(leaf)
        elif isinstance(leaf, Mapping):
            tensors += tensors_of(list(leaf.values()))
        elif is_dataclass(leaf) and not isinstance(leaf, type):
            tensors += tensors_of([getattr(leaf, field.name) for field in fields(leaf)])
    return tensors


_NO_TREES = (int, float, bool, str, type(None))


def map_tensors(function: Callable[[Tensor], Any], example: Example) -> Example:
    """``example`` with ``function`` applied to each of its tensors."""

    def mapped(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return function(leaf)
        if isinstance(leaf, MutableMapping):
            copied = copy.copy(leaf)
            copied.update({key: tree_map(mapped, value) for key, value in leaf.items()})
            return copied
        if is_dataclass(leaf) and not isinstance(leaf, type):
            given = {field.name: getattr(leaf, field.name) for field in fields(leaf) if field.init}
            return replace(leaf, **tree_map(mapped, given))
        return leaf

    result: Example = tree_map(mapped, example)
    return result


def batch_size_of(example: Example) -> int:
    """Samples in ``example``: the first dimension of its first tensor that has one.

    >>> batch_size_of({"image": torch.zeros(4, 3, 8, 8)})
    4

    Raises:
        TypeError: If ``example`` is neither a tensor nor a tuple nor a dict.
        ValueError: If ``example`` holds no tensor with a batch dimension, or no sample.
    """
    call_arguments(example)
    packed = [leaf for leaf in _leaves(example) if isinstance(leaf, PackedSequence)]
    if packed:
        return int(packed[0].batch_sizes[0])
    tensors = [tensor for tensor in tensors_of(example) if tensor.dim() > 0]
    if not tensors or tensors[0].numel() == 0:
        found = f"{describe(tensors[0])}" if tensors else "no tensor with a dimension"
        raise ValueError(
            "example must hold at least one sample in dimension 0 of a tensor, and no dimension of "
            f"size 0, got {found}; give one batch as the network takes it"
        )
    return tensors[0].shape[0]


def with_batch_size(example: Example, batch_size: int) -> Example:
    """``example`` cut or repeated along the batch to ``batch_size`` samples.

    Tensors whose first dimension is not the batch stay as they are.

    >>> with_batch_size(torch.arange(3.0)[:, None], 2).tolist()
    [[0.0], [1.0]]
    """
    found = batch_size_of(example)
    if found == batch_size:
        return example

    def resize(tensor: Tensor) -> Tensor:
        if tensor.dim() == 0 or tensor.shape[0] != found:
            return tensor
        if batch_size <= found:
            return tensor[:batch_size]
        index = torch.arange(batch_size, device=tensor.device) % found
        return tensor.index_select(0, index)

    def resize_leaf(leaf: Any) -> Any:
        if not isinstance(leaf, PackedSequence):
            return map_tensors(resize, leaf)
        padded, lengths = pad_packed_sequence(leaf, batch_first=True)
        return pack_padded_sequence(
            resize(padded), resize(lengths), batch_first=True, enforce_sorted=False
        )

    if isinstance(example, PackedSequence):
        return resize_leaf(example)  # type: ignore[no-any-return]
    resized: Example = tree_map(resize_leaf, example, is_leaf=_is_packed)
    return resized


def _leaves(example: Example) -> list[Any]:
    return tree_leaves(example, is_leaf=_is_packed)


def _is_packed(leaf: Any) -> bool:
    return isinstance(leaf, PackedSequence)


@contextmanager
def observing(network: nn.Module) -> Iterator[None]:
    """Run ``network`` in evaluation mode without gradients and leave it as it was found.

    Restored at the end, also after an error: each module's mode, buffers, gradients, and the
    random states of PyTorch, NumPy and Python. Works inside ``torch.inference_mode`` too. Batch
    norms do not synchronise: one rank may run ``network`` without the others.
    """
    modes = [(module, module.training) for module in network.modules()]
    buffers = [
        (module, {name: (buffer, _copy(buffer)) for name, buffer in module._buffers.items()})
        for module in network.modules()
    ]
    gradients = [(parameter, parameter.grad) for parameter in network.parameters()]
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        for parameter, _ in gradients:
            parameter.grad = None
        _set_evaluating(network)
        with (
            _forked_torch_random(network),
            torch.inference_mode(False),
            torch.no_grad(),
            unsynchronised(),
        ):
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        for parameter, gradient in gradients:
            parameter.grad = gradient
        for module, found in buffers:
            _restore(module, found)
        for module, mode in modes:
            module.training = mode


def _set_evaluating(network: nn.Module) -> None:
    try:
        network.eval()
    except NotImplementedError:  # an exported graph, whose mode is fixed
        for module in network.modules():
            module.training = False


def _copy(buffer: Tensor | None) -> Tensor | None:
    return None if buffer is None else buffer.detach().clone()


@torch.no_grad()
def _restore(module: nn.Module, found: dict[str, tuple[Tensor | None, Tensor | None]]) -> None:
    for name in set(module._buffers.keys()) - set(found):  # TorchScript's iterates by keys() alone
        del module._buffers[name]
    for name, (buffer, value) in found.items():
        module._buffers[name] = buffer
        if buffer is None or value is None or buffer.is_meta:
            continue
        if buffer.shape != value.shape:
            buffer.set_(value)  # type: ignore[call-overload]
        elif not torch.equal(buffer, value):  # autograd may hold it: untouched where it can be
            buffer.copy_(value)


@contextmanager
def _forked_torch_random(network: nn.Module) -> Iterator[None]:
    tensors = [*network.parameters(), *network.buffers()]
    devices = {tensor.device for tensor in tensors if tensor.device.type not in ("cpu", "meta")}
    kinds = {device.type for device in devices}
    if not kinds:
        with torch.random.fork_rng(devices=[]):
            yield
        return
    with torch.random.fork_rng(devices=list(devices), device_type=kinds.pop()):
        yield
