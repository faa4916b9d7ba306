"""The order in which optimizers hold parameters, which their checkpoints go by."""

from torch import nn
from torch.optim import Optimizer


def restore_order(optimizer: Optimizer, network: nn.Module) -> None:
    """Put the parameters of each group, in place, in the order of ``network.parameters()``.

    An optimizer's state is saved by position, and after a resume the optimizer is built anew from
    the replayed network: in this order, as is usual. Parameters of other modules come last.
    """
    position = {parameter: index for index, parameter in enumerate(network.parameters())}
    for group in optimizer.param_groups:
        group["params"].sort(key=lambda parameter: position.get(parameter, len(position)))
