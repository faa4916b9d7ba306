"""Does removing a group's channels do to the network exactly what silencing them does?"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_cost.cost.forward import Example, observing, run_forward, tensors_of
from lightning_cost.pruning.structure.grouping import ChannelGroup, Grouping
from lightning_cost.pruning.structure.plan import Plan, masked, sharing_copy
from lightning_cost.pruning.structure.surgery import operated, removal

_TOLERANCE = 1e-3


def faulty_groups(network: nn.Module, example: Example, grouping: Grouping) -> list[str]:
    """Names of groups whose removal is not what the grouping says it is.

    All groups are tried together first; where that fails, each half of them by itself. The
    network's batch norms take part with scales that are not zero, so that no branch hides what
    happens in it.
    """
    tried = _lively(network)
    faulty = _faulty_of(tried, example, grouping, list(grouping.num_channels))
    sound = set(grouping.num_channels) - set(faulty)
    if not faulty or _is_sound(tried, example, grouping, sound):
        return faulty
    return list(grouping.num_channels)


def is_sound(network: nn.Module, example: Example, grouping: Grouping, names: set[str]) -> bool:
    """Whether removing half of each of the groups ``names`` is what silencing that half is."""
    return _is_sound(_lively(network), example, grouping, names)


def _faulty_of(
    network: nn.Module, example: Example, grouping: Grouping, names: Sequence[str]
) -> list[str]:
    """Those of ``names`` that are faulty by themselves; tried together first, then in halves."""
    if _is_sound(network, example, grouping, set(names)):
        return []
    if len(names) == 1:
        return list(names)
    middle = len(names) // 2
    return [
        name
        for part in (names[:middle], names[middle:])
        for name in _faulty_of(network, example, grouping, part)
    ]


def _is_sound(network: nn.Module, example: Example, grouping: Grouping, names: set[str]) -> bool:
    plan = Plan(
        kept={
            group.name: _every_other(group) if group.name in names else full
            for group in grouping.groups
            for full in [tuple(range(group.num_channels))]
        },
        num_channels=grouping.num_channels,
    )
    try:
        found = _outputs(operated(network, removal(grouping, plan)), example)
        expected = _outputs(masked(network, grouping, plan), example)
    except (RuntimeError, ValueError, IndexError, TypeError, AssertionError):
        return False  # a forward pass that no longer fits is what this looks for
    return len(found) == len(expected) and all(map(_agree, expected, found))


def _every_other(group: ChannelGroup) -> tuple[int, ...]:
    """A little irregular, so that a shifted or interleaved index does not pass."""
    total = group.num_channels
    return tuple(channel for channel in range(total) if (channel + channel // 5) % 2 == 0)


def _agree(expected: Tensor, found: Tensor) -> bool:
    if expected.shape != found.shape:
        return False
    if not expected.is_floating_point():
        return True
    scale = expected.abs().max().item() if expected.numel() else 0.0
    difference = (expected - found).abs().max().item() if expected.numel() else 0.0
    return not difference > _TOLERANCE * max(scale, 1e-12)


def _outputs(network: nn.Module, example: Example) -> list[Tensor]:
    with observing(network):
        return tensors_of(run_forward(network, example))


@torch.no_grad()
def _lively(network: nn.Module) -> nn.Module:
    """A copy that shares the parameters, but for batch norms whose scale is zero."""
    copied = sharing_copy(network)
    for module in copied.modules():
        weight = getattr(module, "weight", None)
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and isinstance(weight, Tensor):
            module.weight = nn.Parameter(torch.where(weight.abs() < 1e-3, 1.0, weight))
    return copied
