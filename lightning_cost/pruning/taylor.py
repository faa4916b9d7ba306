"""How much the loss would change without a weight, to first order."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lightning_cost.cost.duplicate import duplicated
from lightning_cost.pruning.batches import BatchLoss


def weight_importance(
    network: nn.Module, batches: Sequence[Any], loss: BatchLoss
) -> dict[str, Tensor]:
    """Squared first-order change of the loss without each weight, averaged over ``batches``.

    Batch norms and dropout are in evaluation mode. ``network`` and its gradients are left as they
    are; frozen parameters count like the others.

    Args:
        network: The dense network.
        batches: Training data.
        loss: Mean loss of a network on one batch.

    Returns:
        ``(weight × gradient)²`` by parameter name, in the shape of the parameter; a parameter that
        several layers share is there under all its names.

    Reference:
        Molchanov et al., "Importance Estimation for Neural Network Pruning", 2019, equation 8.
    """
    copied = duplicated(network).eval().requires_grad_(True)
    parameters = list(copied.parameters())
    importance = [torch.zeros_like(weight) for weight in parameters]
    for batch in batches:
        with torch.enable_grad():
            gradients = torch.autograd.grad(loss(copied, batch), parameters, allow_unused=True)
        with torch.no_grad():
            for total, weight, gradient in zip(importance, parameters, gradients, strict=True):
                if gradient is not None:
                    total += (weight * gradient).square() / len(batches)
    found = dict(zip(parameters, importance, strict=True))
    named = copied.named_parameters(remove_duplicate=False)
    return {name: found[weight] for name, weight in named}
