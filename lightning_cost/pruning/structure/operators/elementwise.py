"""Operators on one element of each tensor at a time, and constants."""

from typing import Any

import torch

from lightning_cost.pruning.structure.feature_maps import FeatureMaps
from lightning_cost.pruning.structure.operators.rule import Operation, rule


def is_pointwise(func: Any, name: str) -> bool:
    """In-place operators are not always tagged, but what they do in place is."""
    if torch.Tag.pointwise in getattr(func, "tags", ()):
        return True
    packet = getattr(torch.ops.aten, name.rstrip("_"), None) if name.endswith("_") else None
    overloads = packet.overloads() if packet is not None else ()
    return any(torch.Tag.pointwise in getattr(packet, each).tags for each in overloads)


@rule("copy", "masked_fill", "where", "clamp", "fill", "zero", "_to_copy", "clone", "detach")
@rule("alias", "lift_fresh", "contiguous", "native_dropout", "_prelu_kernel", "_conj")
@rule("hardswish", "hardsigmoid", "hardtanh", "relu6", "silu", "mish", "celu", "elu", "selu")
@rule("gelu", "resolve_conj")
@rule("leaky_relu", "log_sigmoid_forward", "softplus", "softshrink", "hardshrink", "threshold")
@rule("dropout", "rrelu_with_noise", "bernoulli", "normal", "uniform", "_fused_dropout")
def pointwise(maps: FeatureMaps, op: Operation) -> None:
    """Channels that meet go together."""
    for result in op.results:
        maps.set(result, maps.met(op.tensors, result.shape, op.name))


@rule("zeros", "ones", "full", "empty", "zeros_like", "ones_like", "full_like", "empty_like")
@rule("new_zeros", "new_ones", "new_full", "new_empty", "rand_like", "randn_like")
def _constant(maps: FeatureMaps, op: Operation) -> None:
    """As wide as what it meets: its size follows from that of others, or from an attribute."""
    if op.result.is_floating_point():
        maps.label_constant(op.result)
