"""Batch-norm statistics of a network that was cut, averaged anew."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lightning_cost.cost.synchronisation import unsynchronised
from lightning_cost.pruning.batches import BatchLoss


def recalibrate_batch_norm(network: nn.Module, batches: Iterable[Any], forward: BatchLoss) -> None:
    """Replace the statistics of every batch norm in place by averages over ``batches``.

    Only batch norms run in training mode; everything else is in evaluation mode. Modes and
    momenta are restored, and so are the statistics of batch norms that no batch reached. Without
    batch norms nothing is run.

    Args:
        network: Changed in place.
        batches: Data to average over; all batches weigh the same.
        forward: Sends one batch through the network; its result is not used.
    """
    if any(map(_is_averaging, network.modules())):
        with averaging_batch_norms(network), torch.no_grad():
            for batch in batches:
                forward(network, batch)


@contextmanager
def averaging_batch_norms(network: nn.Module) -> Iterator[None]:
    """Forward passes inside replace the statistics of batch norms; all else is in evaluation mode.

    Batch norms do not synchronise, as one rank may run ``network`` without the others. Modes and
    momenta are restored, and so are the statistics of batch norms that no batch reached.
    """
    norms = [module for module in network.modules() if _is_averaging(module)]
    modes = [(module, module.training) for module in network.modules()]
    momenta = [norm.momentum for norm in norms]
    statistics = [_copied_buffers(norm) for norm in norms]
    try:
        network.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a cumulative average
            norm.train()
        with unsynchronised():
            yield
    finally:
        for norm, momentum, before in zip(norms, momenta, statistics, strict=True):
            norm.momentum = momentum
            if not norm.num_batches_tracked:
                for name, value in before.items():
                    norm.get_buffer(name).copy_(value)
        for module, mode in modes:
            module.training = mode


def _is_averaging(module: nn.Module) -> TypeGuard[_BatchNorm]:
    return isinstance(module, _BatchNorm) and module.track_running_stats


def _copied_buffers(norm: _BatchNorm) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in norm.named_buffers(recurse=False)}
