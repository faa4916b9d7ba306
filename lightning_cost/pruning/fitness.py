"""How good a candidate is right after the cut: its loss with fresh batch-norm statistics."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lightning_cost.network.batch import num_samples_of
from lightning_cost.network.lineage import Change
from lightning_cost.pruning.batches import BatchLoss
from lightning_cost.pruning.surgery import operated


def candidate_loss(
    network: nn.Module,
    change: Change,
    calibration_batches: Iterable[Any],
    search_batches: Iterable[Any],
    loss: BatchLoss,
) -> float:
    """Mean loss of ``network`` after ``change``, its batch norms recalibrated and nothing trained.

    ``network`` is left as it is. NaN and an empty set of batches give infinity.

    Args:
        network: The dense network.
        change: What is removed from a copy of it.
        calibration_batches: Training data for the batch norms.
        search_batches: Held-out data to judge by.
        loss: Mean loss of a network on one batch.

    Reference:
        Li et al., "EagleEye: Fast Sub-net Evaluation for Efficient Neural Network Pruning", 2020.
    """
    candidate = operated(network, change)
    recalibrate_batch_norm(candidate, calibration_batches, loss)
    candidate.eval()
    total, num_samples = 0.0, 0
    with torch.no_grad():
        for batch in search_batches:
            size = num_samples_of(batch)
            total += float(loss(candidate, batch)) * size
            num_samples += size
    mean = total / num_samples if num_samples else float("inf")
    return mean if mean == mean else float("inf")  # NaN is the one value unlike itself


def recalibrate_batch_norm(network: nn.Module, batches: Iterable[Any], forward: BatchLoss) -> None:
    """Replace the statistics of every batch norm in place by averages over ``batches``.

    Only batch norms run in training mode; everything else is in evaluation mode. Modes and
    momenta are restored. Without batch norms nothing is run.

    Args:
        network: Changed in place.
        batches: Data to average over; all batches weigh the same.
        forward: Sends one batch through the network; its result is not used.
    """
    norms = [
        module
        for module in network.modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats
    ]
    if not norms:
        return
    with _averaging(network, norms), torch.no_grad():
        for batch in batches:
            forward(network, batch)


@contextmanager
def _averaging(network: nn.Module, norms: list[_BatchNorm]) -> Iterator[None]:
    modes = [(module, module.training) for module in network.modules()]
    momenta = [norm.momentum for norm in norms]
    try:
        network.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a cumulative average
            norm.train()
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, mode in modes:
            module.training = mode
