"""The deployed form of a network, after a look at whether it computes the same."""

import torch
from torch import Tensor, nn

from lightning_cost.cost.forward import Example, map_tensors, observing, run_forward, tensors_of
from lightning_cost.network.deploy import deployed_copy
from lightning_cost.network.original import original_of

_TOLERANCE = 0.05
_SEED = 0


def faithful_copy(network: nn.Module, example: Example) -> nn.Module:
    """As :func:`deployed_copy`, checked on ``example``.

    Code that reads the weights of its layers itself, or runs layers with other weights, may get
    something else from the deployed form of a layer than from the one that it was trained with.

    Raises:
        ValueError: If an output differs by more than rounding explains.
    """
    deployed = deployed_copy(network, example)
    network = original_of(network)
    weight = next(network.parameters(), None)
    if weight is not None and weight.is_meta:
        return deployed
    device = torch.device("cpu") if weight is None else weight.device
    here = map_tensors(lambda tensor: tensor.to(device), example)
    there = map_tensors(lambda tensor: tensor.cpu(), example)
    expected, found = _outputs(network, here), _outputs(deployed, there)
    if [tensor.shape for tensor in expected] != [tensor.shape for tensor in found]:
        raise ValueError(_said("outputs of other shapes"))
    for one, other in zip(expected, found, strict=True):
        share = _difference(one, other)
        if not share <= max(_TOLERANCE, _rounding(one)):
            raise ValueError(_said(f"outputs that differ by {share:.1%} of the largest"))
    return deployed


def _outputs(network: nn.Module, example: Example) -> list[Tensor]:
    with observing(network):
        torch.manual_seed(_SEED)  # for networks that draw numbers in evaluation too
        return [tensor.detach().cpu() for tensor in tensors_of(run_forward(network, example))]


def _difference(one: Tensor, other: Tensor) -> float:
    """The largest one, as a share of the largest value; where that is not finite, none."""
    if not one.numel() or not (one.is_floating_point() or one.is_complex()):
        return 0.0
    if not bool(one.isfinite().all()):
        return 0.0
    off = (one - other.to(one.dtype)).abs().max().item()
    return float(off / max(one.abs().max().item(), torch.finfo(one.dtype).tiny))


def _rounding(tensor: Tensor) -> float:
    return 30 * torch.finfo(tensor.dtype).eps if tensor.is_floating_point() else 0.0


def _said(found: str) -> str:
    return (
        f"network must compute once deployed what it does in evaluation mode, got {found}; keep "
        "layers whose weights its code reads or replaces out of quantisation, by rules.exclude"
    )
