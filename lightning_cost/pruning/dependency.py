"""Coupled axes from ``torch_pruning.DependencyGraph``; nothing else knows that library."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
import torch_pruning
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch_pruning.dependency.index_mapping import _ConcatIndexMapping
from torch_pruning.dependency.shape_infer import infer_channels_between
from torch_pruning.ops import OPTYPE

from lightning_cost.cost.forward import Example, map_tensors, observing, run_forward, tensors_of
from lightning_cost.pruning.layers import Axis

_PASSED_THROUGH = {
    OPTYPE.CONCAT,
    OPTYPE.SPLIT,
    OPTYPE.ELEMENTWISE,
    OPTYPE.RESHAPE,
    OPTYPE.UNBIND,
    OPTYPE.EXPAND,
    OPTYPE.SLICE,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class CoupledAxis:
    """An axis that is coupled to the output channels of a root layer.

    Args:
        module: Name of the layer; ``None`` for the network's output and for bare parameters.
        described: What it is, for a message.
        axis: Which axis of the layer.
        positions: Pairs (channel of the root, position along the axis).
    """

    module: str | None
    described: str
    axis: Axis
    positions: tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Coupling:
    """The output channels of a root layer and every axis that is coupled to them."""

    root: str
    num_channels: int
    axes: tuple[CoupledAxis, ...]


def couplings(
    network: nn.Module, example: Example, *, cut: Sequence[nn.Module] = ()
) -> list[Coupling]:
    """The couplings of all convolutions and linear layers, in the order of ``named_modules``.

    The network is left as it was found.

    Args:
        network: Traced by one forward pass in evaluation mode.
        example: What the forward pass takes.
        cut: Modules whose outputs are seen as new inputs, so that nothing is traced through them.
    """
    names = {module: name for name, module in network.named_modules()}
    with _differentiable(network), _cutting(cut), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = torch_pruning.DependencyGraph()
        graph.build_dependency(network, example, forward_fn=run_forward, verbose=False)
        _map_concatenations(graph)
        groups = list(graph.get_all_groups())
    found = [_coupling(graph, group, names) for group in groups]
    order = {name: place for place, name in enumerate(names.values())}
    return sorted(found, key=lambda coupling: order[coupling.root])


def _map_concatenations(graph: Any) -> None:
    """Give the concatenations of channels that the library left without offsets theirs.

    It takes them for concatenations along another dimension where a flattened linear layer
    follows; the recorded dimension says that they are not.
    """
    for node in graph.module2node.values():
        is_concat = node.type == OPTYPE.CONCAT and node.module.offsets is None
        if not is_concat or getattr(node.grad_fn, "_saved_dim", None) != 1:
            continue
        sizes = [infer_channels_between(graph, source, node) for source in node.inputs]
        if None in sizes or len(set(node.inputs)) < len(sizes):
            continue
        offsets = [0, *accumulate(sizes)]
        for place, source in enumerate(node.inputs):
            span = offsets[place : place + 2]
            for owner, target, reverse in ((node, source, True), (source, node, False)):
                for dependency in owner.dependencies:
                    if dependency.target is target:
                        dependency.index_mapping[1] = _ConcatIndexMapping(span, reverse=reverse)


def _coupling(graph: Any, group: Any, names: dict[nn.Module, str]) -> Coupling:
    axes = []
    for item in group:
        dependency, node = item.dep, item.dep.target
        if node.type in _PASSED_THROUGH:
            continue
        pruner = graph.get_pruner_of_module(node.module)
        is_out = dependency.handler in (
            pruner.prune_out_channels,
            torch_pruning.prune_depthwise_conv_out_channels,
        )
        is_output = node.type == OPTYPE.OUTPUT
        name = names.get(node.module)
        axes.append(
            CoupledAxis(
                module=name,
                described="the network's output" if is_output else name or "a bare parameter",
                axis="out" if is_out else "in",
                positions=tuple(zip(item.root_idxs, item.idxs, strict=True)),
            )
        )
    root = names[group[0].dep.target.module]
    return Coupling(root=root, num_channels=len(group[0].idxs), axes=tuple(axes))


@contextmanager
def _differentiable(network: nn.Module) -> Iterator[None]:
    """Autograd sees every parameter, and keeps no activations."""
    frozen = [parameter for parameter in network.parameters() if not parameter.requires_grad]
    floating = [parameter for parameter in frozen if parameter.is_floating_point()]
    with observing(network):
        try:
            for parameter in floating:
                parameter.requires_grad_(True)
            with torch.enable_grad(), saved_tensors_hooks(_drop, _drop):
                yield
        finally:
            for parameter in floating:
                parameter.requires_grad_(False)


def _drop(tensor: Any) -> Any:
    """Nothing is ever sent backwards, so no activation has to be kept."""


@contextmanager
def _cutting(modules: Sequence[nn.Module]) -> Iterator[None]:
    def detach(module: nn.Module, args: Any, output: Any) -> Any:
        return map_tensors(_as_input, output)

    handles = [module.register_forward_hook(detach) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _as_input(tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    return tensor.detach().requires_grad_().clone()  # a clone, as leaves refuse in-place operators


def completion_order(network: nn.Module, example: Example) -> list[nn.Module]:
    """The modules that a forward pass completes, first to last."""
    completed: dict[nn.Module, None] = {}

    def note(module: nn.Module, args: Any, output: Any) -> None:
        if tensors_of(output):
            completed.setdefault(module)

    handles = [module.register_forward_hook(note) for module in network.modules()]
    try:
        with observing(network):
            run_forward(network, example)
    finally:
        for handle in handles:
            handle.remove()
    return list(completed)
