"""One forward pass of a network on an example, leaving the network as it was found."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

Example: TypeAlias = Tensor | tuple[Any, ...] | dict[str, Any]
"""What one forward pass takes: a tensor, positional or keyword arguments; batch in dim 0."""


def run_forward(network: nn.Module, example: Example) -> Any:
    """The output of ``network`` for ``example``.

    >>> run_forward(nn.Identity(), (torch.ones(1, 2),))
    tensor([[1., 1.]])

    Raises:
        TypeError: If ``example`` is neither a tensor nor a tuple nor a dict.
    """
    args, kwargs = call_arguments(example)
    return network(*args, **kwargs)


def call_arguments(example: Example) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments of a call with ``example``.

    Raises:
        TypeError: If ``example`` is neither a tensor nor a tuple nor a dict.
    """
    if isinstance(example, Tensor):
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
    """The tensors in nested tuples, lists and dicts, in order."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def map_tensors(function: Callable[[Tensor], Any], example: Example) -> Example:
    """``example`` with ``function`` applied to each of its tensors."""
    mapped: Example = tree_map_only(Tensor, function, example)
    return mapped


def batch_size_of(example: Example) -> int:
    """Samples in ``example``: the first dimension of its first tensor that has one.

    >>> batch_size_of({"image": torch.zeros(4, 3, 8, 8)})
    4

    Raises:
        TypeError: If ``example`` is neither a tensor nor a tuple nor a dict.
        ValueError: If ``example`` holds no tensor with a batch dimension, or no sample.
    """
    call_arguments(example)
    sizes = [tensor.shape[0] for tensor in tensors_of(example) if tensor.dim() > 0]
    if not sizes or sizes[0] == 0:
        found = "a batch of 0" if sizes else "no tensor with a dimension"
        raise ValueError(
            f"example must hold at least one sample in dimension 0 of a tensor, got {found}; "
            "give one batch as the network takes it"
        )
    return sizes[0]


def with_batch_size(example: Example, batch_size: int) -> Example:
    """``example`` cut or repeated along the batch to ``batch_size`` samples.

    Tensors whose first dimension is not the batch stay as they are.

    >>> with_batch_size(torch.arange(3.0)[:, None], 2).tolist()
    [[0.0], [1.0]]
    """
    found = batch_size_of(example)

    def resize(tensor: Tensor) -> Tensor:
        if tensor.dim() == 0 or tensor.shape[0] != found or found == batch_size:
            return tensor
        if batch_size <= found:
            return tensor[:batch_size]
        index = torch.arange(batch_size, device=tensor.device) % found
        return tensor.index_select(0, index)

    return map_tensors(resize, example)


@contextmanager
def observing(network: nn.Module) -> Iterator[None]:
    """Run ``network`` in evaluation mode without gradients and leave it as it was found.

    Restored at the end, also after an error: each module's mode, buffers, gradients, and the
    random states of PyTorch, NumPy and Python. Works inside ``torch.inference_mode`` too.
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
        network.eval()
        with _forked_torch_random(network), torch.inference_mode(False), torch.no_grad():
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


def _copy(buffer: Tensor | None) -> Tensor | None:
    return None if buffer is None else buffer.detach().clone()


@torch.no_grad()
def _restore(module: nn.Module, found: dict[str, tuple[Tensor | None, Tensor | None]]) -> None:
    for name in set(module._buffers) - set(found):
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
