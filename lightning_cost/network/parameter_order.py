"""The order in which optimizers hold parameters, which their checkpoints go by."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from torch import nn
from torch.optim import Optimizer


def ordered_groups(optimizers: Iterable[Optimizer], network: nn.Module) -> list[dict[str, Any]]:
    """The parameter groups that hold their parameters in the order of ``network.parameters()``."""
    position = _positions(network)
    return [
        group
        for optimizer in optimizers
        for group in optimizer.param_groups
        if all(
            position.get(first, len(position)) <= position.get(second, len(position))
            for first, second in pairwise(group["params"])
        )
    ]


def restore_order(groups: Iterable[dict[str, Any]], network: nn.Module) -> None:
    """Put the parameters of each group, in place, in the order of ``network.parameters()``.

    An optimizer's state is saved by position, and after a resume the optimizer is built anew from
    the replayed network: in this order, as is usual. Parameters of other modules come last.
    """
    position = _positions(network)
    for group in groups:
        group["params"].sort(key=lambda parameter: position.get(parameter, len(position)))


def _positions(network: nn.Module) -> dict[nn.Parameter, int]:
    return {parameter: index for index, parameter in enumerate(network.parameters())}
