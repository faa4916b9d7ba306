"""A fit's network and optimizers at one moment, to go back to after a structural change."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from lightning_cost.network.averaging import averaged_copies
from lightning_cost.network.lineage import (
    ParameterSwap,
    lineage_from_list,
    lineage_of,
    lineage_to_list,
    replay,
    set_lineage,
)
from lightning_cost.network.optimizer import swap_parameters
from lightning_cost.network.structural import follow_parameters, uninterrupted


def take_snapshot(trainer: pl.Trainer, network: nn.Module) -> dict[str, Any]:
    """Structure, weights, averaged weights and optimizer state, as plain data on the CPU."""
    copies = averaged_copies(trainer, network)
    state = {
        "changes": lineage_to_list(lineage_of(network)),
        "weights": trainer.lightning_module.state_dict(),
        "averaged": [averaged.state_dict() for averaged in copies],
        "optimizers": [optimizer.state_dict()["state"] for optimizer in trainer.optimizers],
    }
    on_cpu: dict[str, Any] = tree_map(_copied, state)
    return on_cpu


def restore_snapshot(
    trainer: pl.Trainer, network: nn.Module, snapshot: dict[str, Any], fresh: nn.Module
) -> None:
    """Bring ``network``, and all that follows it, back to ``snapshot``, on every rank.

    Learning rates stay as they are now.

    Args:
        trainer: Whose optimizers, averaged weights and strategy follow.
        network: Changed in place.
        snapshot: From :func:`take_snapshot`.
        fresh: A network like ``network`` before its first change, or at an early one; its weights
            do not count.

    Raises:
        ValueError: If the network has other layers now than it had then.
    """
    earlier = deepcopy(fresh)
    replay(earlier, lineage_from_list(snapshot["changes"]))
    networks = [network, *averaged_copies(trainer, network)]
    with uninterrupted():
        swaps = [swap for each in networks for swap in _take_shape(each, deepcopy(earlier))]
        trainer.lightning_module.load_state_dict(snapshot["weights"])
        for averaged, weights in zip(networks[1:], snapshot["averaged"], strict=True):
            averaged.load_state_dict(weights)
        for optimizer, state in zip(trainer.optimizers, snapshot["optimizers"], strict=True):
            for swap in swaps:
                if swap.old is not None:
                    optimizer.state.pop(swap.old, None)
            swap_parameters(optimizer, swaps)
            # its groups stay the objects that schedulers know
            groups = optimizer.param_groups
            optimizer.load_state_dict(
                {"state": deepcopy(state), "param_groups": optimizer.state_dict()["param_groups"]}
            )
            optimizer.param_groups = groups
        follow_parameters(trainer)


def _copied(value: Any) -> Any:
    return value.detach().to("cpu", copy=True) if isinstance(value, Tensor) else value


def _take_shape(network: nn.Module, earlier: nn.Module) -> Iterator[ParameterSwap]:
    """Give the layers of ``network`` the sizes of those of ``earlier``; values are arbitrary."""
    layers, donors = dict(network.named_modules()), dict(earlier.named_modules())
    if layers.keys() != donors.keys():
        raise ValueError(
            "network must have the layers that it had before it was pruned, got others: "
            f"{sorted(layers.keys() ^ donors.keys())[:3]}; let quantisation start after pruning"
        )
    swaps: dict[int, ParameterSwap] = {}  # one for all layers that share a parameter
    for name, layer in layers.items():
        donor = donors[name]
        for key, old in list(layer.named_parameters(recurse=False, remove_duplicate=False)):
            wanted = getattr(donor, key)
            if wanted.shape != old.shape:
                if id(old) not in swaps:
                    swaps[id(old)] = ParameterSwap(old=old, new=_shaped_like(wanted, old))
                    yield swaps[id(old)]
                setattr(layer, key, swaps[id(old)].new)
        for key, buffer in list(layer.named_buffers(recurse=False, remove_duplicate=False)):
            wanted = getattr(donor, key)
            if wanted.shape != buffer.shape:
                setattr(layer, key, wanted.to(dtype=buffer.dtype, device=buffer.device))
        for key, value in vars(donor).items():
            if _is_size(value):
                setattr(layer, key, value)
    set_lineage(network, lineage_of(earlier))


def _shaped_like(wanted: Tensor, old: nn.Parameter) -> nn.Parameter:
    """A parameter in place of ``old``, of the shape of ``wanted``; its values are arbitrary."""
    values = torch.empty_like(wanted, dtype=old.dtype, device=old.device)
    return nn.Parameter(values, requires_grad=old.requires_grad)


def _is_size(value: Any) -> bool:
    """Whether an attribute may be a number of channels, or a shape."""
    if isinstance(value, (tuple, list)):
        return all(type(size) is int for size in value)
    return type(value) is int
