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
        ``(weight × gradient)²`` by parameter name, in the shape of the parameter.

    Reference:
        Molchanov et al., "Importance Estimation for Neural Network Pruning", 2019, equation 8.
    """
    copied = duplicated(network).eval().requires_grad_(True)
    parameters = dict(copied.named_parameters())
    importance = {name: torch.zeros_like(weight) for name, weight in parameters.items()}
    for batch in batches:
        with torch.enable_grad():
            gradients = torch.autograd.grad(
                loss(copied, batch), list(parameters.values()), allow_unused=True
            )
        with torch.no_grad():
            for (name, weight), gradient in zip(parameters.items(), gradients, strict=True):
                if gradient is not None:
                    importance[name] += (weight * gradient).square() / len(batches)
    return importance
