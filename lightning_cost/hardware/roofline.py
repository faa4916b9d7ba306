"""Latency of a network on a device that is only described: arithmetic or memory, layer by layer.

A layer takes max(MACs / peak, bytes / bandwidth); layers run one after another (Williams, Waterman
and Patterson, Roofline, CACM 2009).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lightning_cost.cost.forward import (
    Example,
    batch_size_of,
    observing,
    run_forward,
    tensors_of,
)
from lightning_cost.cost.macs import count_macs
from lightning_cost.cost.size import size_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerWork:
    """What one layer asks of a device in one forward pass.

    Args:
        name: The module's name in the network.
        macs: Its own multiply-accumulates, without those of its children.
        num_bytes: Bytes that it moves: weights, inputs and outputs.
        is_int8: Whether its arithmetic is that of 8-bit integers.
    """

    name: str
    macs: float
    num_bytes: float
    is_int8: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Roofline:
    """What a device can do at best.

    Args:
        peak_gmacs_fp32: 10⁹ multiply-accumulates per second in float32.
        peak_gmacs_int8: The same in int8; ``None`` where int8 runs no faster.
        bandwidth_gb_s: 10⁹ bytes per second to and from memory.
    """

    peak_gmacs_fp32: float
    bandwidth_gb_s: float
    peak_gmacs_int8: float | None = None

    def latency_ms(self, work: Sequence[LayerWork]) -> float:
        """Time for all layers, one after another.

        >>> roof = Roofline(peak_gmacs_fp32=1, bandwidth_gb_s=1)
        >>> roof.latency_ms([LayerWork(name="conv", macs=2e6, num_bytes=1e6)])
        2.0
        """
        return sum(self._layer_ms(layer) for layer in work)

    def _layer_ms(self, layer: LayerWork) -> float:
        peak = self.peak_gmacs_fp32
        if layer.is_int8 and self.peak_gmacs_int8 is not None:
            peak = self.peak_gmacs_int8
        return max(layer.macs / peak, layer.num_bytes / self.bandwidth_gb_s) / 1e6


def layer_work(network: nn.Module, example: Example) -> tuple[list[LayerWork], tuple[str, ...]]:
    """The work of each layer of ``network`` for the batch in ``example``.

    A layer is a module that multiplies and has no module inside that does, or a leaf outside of
    those. A leaf that neither multiplies nor changes the shape (an activation function, an
    identity) is taken as fused into its producer, as deployment runtimes do. Activations of a layer
    with 8-bit weights move one byte per element. What a container multiplies itself counts as
    arithmetic without traffic.

    Returns:
        The work, and the operators that were not counted.
    """
    report = count_macs(network, example)
    modules = dict(network.named_modules())
    layers = _layers(modules, report.by_module)
    moved = _moved_bytes(modules, layers, example)
    batch_size = batch_size_of(example)
    work = []
    for name, module in modules.items():
        macs = _own_macs(name, module, report.by_module)
        num_bytes = moved.get(name, 0.0)
        if name in layers and macs > 0:
            num_bytes += size_bytes(module)
        if macs > 0 or num_bytes > 0:
            work.append(
                LayerWork(
                    name=name,
                    macs=float(macs * batch_size),
                    num_bytes=num_bytes,
                    is_int8=name in layers and _is_int8(module),
                )
            )
    return work, report.unsupported


def _layers(modules: Mapping[str, nn.Module], macs: Mapping[str, int]) -> set[str]:
    """Modules that multiply and hold none that does, and the leaves outside of those."""
    multiplying = [name for name in modules if macs[name] > 0]
    around = {container for name in multiplying for container in _containers(name)}
    innermost = set(multiplying) - around
    leaves = {name for name, module in modules.items() if next(module.children(), None) is None}
    outside = {name for name in leaves if innermost.isdisjoint(_containers(name))}
    return innermost | outside


def _containers(name: str) -> list[str]:
    """The names of the modules around the module ``name``, the network included."""
    if name == "":
        return []
    parts = name.split(".")
    return [".".join(parts[:depth]) for depth in range(len(parts))]


def _own_macs(name: str, module: nn.Module, macs: Mapping[str, int]) -> int:
    """MACs of the module without those of its children."""
    children = (f"{name}.{child}".lstrip(".") for child, _ in module.named_children())
    return macs[name] - sum(macs.get(child, 0) for child in children)


def _moved_bytes(
    modules: Mapping[str, nn.Module], layers: Collection[str], example: Example
) -> dict[str, float]:
    """Bytes of inputs and outputs of each layer that is not fused."""
    network = modules[""]
    moved: dict[str, float] = {}

    def counter(name: str) -> Callable[..., None]:
        is_int8 = _is_int8(modules[name])
        has_weights = is_int8 or next(modules[name].parameters(), None) is not None

        def count(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            inputs, outputs = tensors_of((args, kwargs)), tensors_of(output)
            shapes = {tensor.shape for tensor in outputs}
            if not has_weights and shapes == {tensor.shape for tensor in inputs}:
                return
            moved[name] = moved.get(name, 0.0) + sum(
                tensor.numel() * (1 if is_int8 else tensor.element_size())
                for tensor in [*inputs, *outputs]
            )

        return count

    with ExitStack() as stack, observing(network):
        for name in layers:
            hook = modules[name].register_forward_hook(counter(name), with_kwargs=True)
            stack.callback(hook.remove)
        run_forward(network, example)
    return moved


def _is_int8(module: nn.Module) -> bool:
    """Whether the module holds 8-bit weights."""
    tensors = [*module.parameters(), *module.buffers()]
    return any(tensor.dtype in (torch.int8, torch.uint8) and tensor.dim() > 1 for tensor in tensors)
