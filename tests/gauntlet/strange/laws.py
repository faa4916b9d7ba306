"""The laws that hold for every network, each as a check that raises where it is broken."""

import copy
import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lightning_cost.cost.forward import observing, run_forward, tensors_of
from tests.gauntlet.strange.outcome import BrokenLawError


def outputs_of(network: nn.Module, example: Any) -> list[Tensor]:
    """What ``network`` gives in evaluation mode, always with the same random numbers."""
    with observing(network):
        torch.manual_seed(7)
        return [tensor.clone() for tensor in tensors_of(run_forward(network, example))]


def require(holds: bool, law: str) -> None:
    """Raise where a law does not hold."""
    if not holds:
        raise BrokenLawError(law)


def require_equal(expected: list[Tensor], found: list[Tensor], law: str) -> None:
    """Raise unless both are the same, bit for bit, NaN included."""
    require(len(expected) == len(found), f"{law}: {len(expected)} outputs became {len(found)}")
    for one, other in zip(expected, found, strict=True):
        same = one.shape == other.shape and one.dtype == other.dtype
        require(same, f"{law}: {_described(one)} became {_described(other)}")
        require(_same_bits(one, other), f"{law}: off by {difference(one, other):.1e}")


def require_close(expected: list[Tensor], found: list[Tensor], share: float, law: str) -> None:
    """Raise where an output is off by more than ``share`` of its largest value."""
    require(len(expected) == len(found), f"{law}: {len(expected)} outputs became {len(found)}")
    for one, other in zip(expected, found, strict=True):
        require(one.shape == other.shape, f"{law}: {_described(one)} became {_described(other)}")
        if one.is_floating_point() or one.is_complex():
            off = difference(one, other)
            require(off <= share, f"{law}: off by {off:.1e} of the largest value")


def difference(one: Tensor, other: Tensor) -> float:
    """The largest difference, as a share of the largest value; infinite beside NaN alone."""
    one, other = _wide(one), _wide(other)
    if one.numel() == 0:
        return 0.0
    if not bool(one.isfinite().all()):
        same = torch.equal(one.isnan(), other.isnan())
        return 0.0 if same else float("inf")
    off = (one - other).abs().max().item()
    return off / max(one.abs().max().item(), 1e-30) if np.isfinite(off) else float("inf")


def noise_share(one: Tensor, other: Tensor) -> float:
    """Root mean square of the error, as a share of that of the values about their mean."""
    one, other = _wide(one), _wide(other)
    spread = (one - one.mean()).abs().square().mean().sqrt()
    size = torch.maximum(spread, one.abs().mean() / 4)
    return float((one - other).abs().square().mean().sqrt() / size.clamp_min(1e-30))


def state_of(network: nn.Module) -> dict[str, Any]:
    """All of a network that whoever looks at it has to leave alone."""
    modules = list(network.modules())
    tensors = [*network.parameters(), *network.buffers()]
    return {
        "modes": [module.training for module in modules],
        "hooks": [
            (list(module._forward_hooks), list(module._forward_pre_hooks)) for module in modules
        ],
        "tensors": [id(tensor) for tensor in tensors],
        "values": [
            None
            if isinstance(tensor, nn.parameter.UninitializedTensorMixin)
            else copy.deepcopy(tensor.detach())
            for tensor in tensors
        ],
        "gradients": [(tensor.requires_grad, id(tensor.grad)) for tensor in tensors],
        "random": (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()),
        "attributes": [sorted(vars(module)) for module in modules],
    }


def require_untouched(before: dict[str, Any], network: nn.Module, by: str) -> None:
    """Raise where ``network`` is not as it was."""
    after = state_of(network)
    for what, value in before.items():
        require(_alike(value, after[what]), f"{by} changed the network's {what}")


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and _same_bits(one, other)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_alike, one, other))
    return bool(one == other)


def _same_bits(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(torch.nan_to_num(one), torch.nan_to_num(other)) and torch.equal(
        one.isnan(), other.isnan()
    )


def _wide(tensor: Tensor) -> Tensor:
    return tensor.detach().to(torch.complex128 if tensor.is_complex() else torch.float64)


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
