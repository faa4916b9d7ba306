"""Latency of a network on a device that is only described: arithmetic or memory, layer by layer.

A layer takes max(MACs / peak, bytes / bandwidth); layers run one after another (Williams, Waterman
and Patterson, Roofline, CACM 2009).
"""

from collections.abc import Sequence
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
    """What one module asks of a device in one forward pass.

    Args:
        name: The module's name in the network.
        macs: Its own multiply-accumulates, without those of its children.
        num_bytes: Bytes that it moves: its own weights, and a leaf's inputs and outputs.
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
    """The work of each module of ``network`` for the batch in ``example``.

    A leaf that neither multiplies nor changes the shape (an activation function, an identity, a
    fake quantiser) is taken as fused into its producer, as deployment runtimes do. Activations of
    an int8 layer move one byte per element.

    Returns:
        The work, and the operators that were not counted.
    """
    report = count_macs(network, example)
    moved = _moved_bytes(network, example)
    batch_size = batch_size_of(example)
    work = []
    for name, module in network.named_modules():
        children = (f"{name}.{child}".lstrip(".") for child, _ in module.named_children())
        own = report.by_module.get(name, 0) - sum(report.by_module.get(key, 0) for key in children)
        is_leaf = next(module.children(), None) is None
        num_bytes = moved.get(name, 0.0) if own > 0 or is_leaf else 0.0
        if own > 0:
            num_bytes += _own_weight_bytes(module)
        if own > 0 or num_bytes > 0:
            work.append(
                LayerWork(
                    name=name,
                    macs=float(own * batch_size),
                    num_bytes=num_bytes,
                    is_int8=_is_int8(module),
                )
            )
    return work, report.unsupported


def _moved_bytes(network: nn.Module, example: Example) -> dict[str, float]:
    """Bytes of inputs and outputs of each leaf that is not fused."""
    moved: dict[str, float] = {}

    def count(name: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        inputs, outputs = tensors_of((args, kwargs)), tensors_of(output)
        shapes = {tensor.shape for tensor in outputs}
        has_weights = next(module.parameters(), None) is not None or _is_int8(module)
        if not has_weights and shapes == {tensor.shape for tensor in inputs}:
            return
        moved[name] = moved.get(name, 0.0) + sum(
            tensor.numel() * (1 if _is_int8(module) else tensor.element_size())
            for tensor in [*inputs, *outputs]
        )

    with ExitStack() as stack, observing(network):
        for name, module in network.named_modules():
            if next(module.children(), None) is not None:
                continue

            def hook(
                module: nn.Module, args: Any, kwargs: Any, output: Any, name: str = name
            ) -> None:
                count(name, module, args, kwargs, output)

            handle = module.register_forward_hook(hook, with_kwargs=True)
            stack.callback(handle.remove)
        run_forward(network, example)
    return moved


def _is_int8(module: nn.Module) -> bool:
    """Whether the module itself holds 8-bit weights."""
    tensors = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return any(tensor.dtype in (torch.int8, torch.uint8) and tensor.dim() > 1 for tensor in tensors)


def _own_weight_bytes(module: nn.Module) -> float:
    if next(module.children(), None) is None:
        return float(size_bytes(module))
    tensors = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return float(sum(tensor.numel() * tensor.element_size() for tensor in tensors))
