"""Optimizers follow their network through a structural change."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import LongTensor, Tensor, nn
from torch.optim import LBFGS, Optimizer

from lightning_cost.network.lineage import ParameterSwap


@torch.no_grad()
def swap_parameters(optimizer: Optimizer, swaps: Sequence[ParameterSwap]) -> None:
    """Make ``optimizer`` train the new parameters in place of the old ones.

    A parameter keeps its place in its group. State of the parameter's shape (momentum, Adam's
    moments) is cut to the kept positions, and so is state with size 1 in some of its dimensions
    (Adafactor's rows and columns); single numbers, such as the step, go along whole. A parameter
    that is new joins the group of the one that it belongs beside; if there is none, the group of
    the parameters that were swapped with it, or else the first group. Parameters that the optimizer
    does not hold, and what belongs beside them, are passed over.

    Raises:
        ValueError: If there is state of another shape; the optimizer is left as it was.
    """
    require_cuttable(optimizer)
    by_old = {swap.old: swap for swap in swaps if swap.old is not None}
    home = _home_of_new(optimizer, by_old)
    for group in optimizer.param_groups:
        group["params"] = [
            parameter
            for held in group["params"]
            for parameter in ([by_old[held].new] if held in by_old else [held])
            if parameter is not None
        ]
    for old, swap in by_old.items():
        state = optimizer.state.pop(old, None)
        if state is not None and swap.new is not None:
            optimizer.state[swap.new] = {
                key: _cut(value, old.shape, swap.kept) for key, value in state.items()
            }
    group_of = {held: group for group in optimizer.param_groups for held in group["params"]}
    # first what others may belong beside
    for swap in sorted(swaps, key=lambda swap: swap.beside is not None):
        if swap.old is None and swap.new is not None and swap.new not in group_of:
            joined = home if swap.beside is None else group_of.get(swap.beside)
            if joined is not None:
                joined["params"].append(swap.new)
                group_of[swap.new] = joined


def require_cuttable(optimizer: Optimizer) -> None:
    """Refuse an optimizer whose state cannot follow when channels are removed.

    Raises:
        ValueError: Names the optimizer and the part of its state.
    """
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            if isinstance(optimizer, LBFGS) or not _can_follow(value, parameter.shape):
                found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise ValueError(
                    "optimizer must keep state that belongs to single channels, got "
                    f"{type(optimizer).__name__} with {key!r} of {found} for a parameter of "
                    f"{tuple(parameter.shape)}; train with SGD, Adam, AdamW, RMSprop, Adagrad or "
                    "Adafactor while channels are removed"
                )


def _can_follow(value: object, shape: torch.Size) -> bool:
    if isinstance(value, (list, tuple)):
        return not any(isinstance(part, Tensor) and part.numel() > 1 for part in value)
    if not isinstance(value, Tensor) or value.numel() == 1:
        return True
    return value.dim() == len(shape) and all(
        size in (1, whole) for size, whole in zip(value.shape, shape, strict=True)
    )


def _home_of_new(
    optimizer: Optimizer, by_old: Mapping[nn.Parameter, ParameterSwap]
) -> dict[str, Any] | None:
    for group in optimizer.param_groups:
        if any(parameter in by_old for parameter in group["params"]):
            return group
    return optimizer.param_groups[0] if not by_old else None


def _cut(value: object, shape: torch.Size, kept: Mapping[int, LongTensor]) -> object:
    if not isinstance(value, Tensor) or value.dim() != len(shape):
        return value
    is_channels_last = value.dim() == 4 and not value.is_contiguous()
    for dim, index in kept.items():
        if value.shape[dim] == shape[dim]:
            value = value.index_select(dim, index.to(value.device))
    layout = torch.channels_last if is_channels_last else torch.contiguous_format
    return value.contiguous(memory_format=layout)
