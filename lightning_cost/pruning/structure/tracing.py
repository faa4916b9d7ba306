"""Following the channels of a network through one forward pass."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_cost.cost.flop_counter import unfused
from lightning_cost.cost.forward import (
    Example,
    call_arguments,
    observing,
    run_forward,
    tensors_of,
    with_batch_size,
)
from lightning_cost.pruning.structure.feature_maps import FeatureMaps
from lightning_cost.pruning.structure.labels import Links
from lightning_cost.pruning.structure.layers import axes_of
from lightning_cost.pruning.structure.operators.follow import follow

OUTPUT = "its channels are the network's output"


@dataclass(frozen=True, slots=True)
class Holder:
    """Where a parameter or buffer is: name of the module and its own name there."""

    module: str
    name: str


@dataclass(frozen=True, slots=True)
class Trace:
    """What one forward pass told.

    Args:
        links: Which labels go together, and which stay.
        labels: Labels [size] of each dimension of each parameter or buffer.
        inputs: Labels [in_channels] of the inputs of grouped convolutions, by module.
        wanted: Labels along which weights were summed over.
    """

    links: Links
    labels: dict[tuple[Holder, int], Tensor]
    inputs: dict[str, Tensor]
    wanted: frozenset[int]


def trace(network: nn.Module, example: Example) -> Trace:
    """Follow the channels of ``network``, which is left as it was found.

    In evaluation mode; where that leaves weights unread, as of classifiers that only help training,
    in training mode as well.
    """
    links = Links()
    maps = FeatureMaps(links)
    labels: dict[tuple[Holder, int], Tensor] = {}
    weights: dict[int, list[str]] = defaultdict(list)
    seen: dict[int, dict[int, Tensor]] = {}
    for holder, tensor, dims in _channelled(network):
        if id(tensor) not in seen:
            found = maps.label_all(tensor, dims)
            several = [dim for dim in dims if tensor.shape[dim] > 1]
            seen[id(tensor)] = dict(zip(several, found, strict=True))
        weights[id(tensor)].append(holder.module)
        for dim, along in seen[id(tensor)].items():
            labels[holder, dim] = along
    with observing(network), unfused(), _following(network, maps), _Mode(maps):
        _pin_outputs(maps, run_forward(network, example))
        if not maps.are_all_weights_used():
            network.train()
            try:
                args, kwargs = call_arguments(with_batch_size(example, 2))
                _pin_outputs(maps, network(*args, **kwargs))
            except Exception:  # then it is no network to train, and evaluation tells all
                maps.module = ""
    inputs: dict[str, Tensor] = {}
    for weight, ins in maps.grouped:
        for name in weights[id(weight)]:
            if "in" in axes_of(network.get_submodule(name)):
                links.tie(ins, inputs.setdefault(name, ins))
    wanted = {label for labels in maps.wanted for label in labels.tolist()}
    return Trace(links=links, labels=labels, inputs=inputs, wanted=frozenset(wanted))


def _pin_outputs(maps: FeatureMaps, outputs: Any) -> None:
    maps.note_used(tensors_of(outputs))
    for tensor in tensors_of(outputs):
        for array in maps.of(tensor):
            maps.links.pin(array, OUTPUT)


def _channelled(network: nn.Module) -> Iterator[tuple[Holder, Tensor, list[int]]]:
    """Parameters and statistics, and the dimensions of them that may be channels."""
    for name, module in network.named_modules():
        own = list(module.named_parameters(recurse=False))
        if axes_of(module):
            own += module.named_buffers(recurse=False)
        for tensor_name, tensor in own:
            if not tensor.is_floating_point():
                continue
            is_filter = isinstance(module, _ConvNd) and tensor_name == "weight"
            dims = range(2 if is_filter else tensor.dim())
            yield Holder(name, tensor_name), tensor, list(dims)


@contextmanager
def _following(network: nn.Module, maps: FeatureMaps) -> Iterator[None]:
    """Know, meanwhile, which module runs."""
    running: list[str] = [""]
    modules = dict(network.named_modules())

    def arrive() -> None:
        maps.module = running[-1]
        kind = type(modules[maps.module]).__name__
        maps.place = f"{maps.module} ({kind})" if maps.module else kind

    def entering(name: str) -> Any:
        def enter(*_: object) -> None:
            running.append(name)
            arrive()

        return enter

    def leave(*_: object) -> None:
        running.pop()
        arrive()

    with ExitStack() as stack:
        for name, module in modules.items():
            if not isinstance(module, torch.jit.ScriptModule):
                for hook in (
                    module.register_forward_pre_hook(entering(name)),
                    module.register_forward_hook(leave, always_call=True),
                ):
                    stack.callback(hook.remove)
        yield


class _Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Hands each operator to its rule."""

    def __init__(self, maps: FeatureMaps) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._maps = maps

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        follow(self._maps, func, args, kwargs, result)
        return result
