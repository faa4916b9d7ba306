"""FLOPs of a training step, estimated from the network alone: forward and backward."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lightning_cost.cost.duplicate import duplicated
from lightning_cost.cost.flop_counter import FlopCounter
from lightning_cost.cost.forward import (
    Example,
    observing,
    run_forward,
    tensors_of,
    with_batch_size,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingFlops:
    """FLOPs of a forward and a backward pass of one sample.

    What a training step does beside is not in them: what the module computes outside of the
    network, the loss, the optimizer. :class:`FlopCounter` around a real step counts those.

    Args:
        per_sample: FLOPs of one sample, forward and backward.
        by_operator: FLOPs of one sample, by operator.
        has_backward: Whether some output required a gradient; if none did, there is only forward.
        unsupported: Operators that the network ran, that do real work and that no formula counts.
    """

    per_sample: int
    by_operator: dict[str, int]
    has_backward: bool
    unsupported: tuple[str, ...] = ()


def training_flops(network: nn.Module, example: Example) -> TrainingFlops:
    """FLOPs of a forward and backward pass per sample, of a copy of ``network`` in training mode.

    Two samples are run, and the count halved: batch normalisation refuses a single value.
    Parameters that do not require a gradient save their share, as they do in training.

    >>> training_flops(nn.Linear(3, 4), torch.zeros(1, 3)).by_operator
    {'aten.addmm': 24, 'aten.mm': 24}

    Raises:
        TypeError: If ``example`` is neither a tensor nor a tuple nor a dict.
        ValueError: If ``example`` holds no sample, or the network does not take it.
    """
    samples = with_batch_size(example, 2)
    counter = FlopCounter()
    with observing(network):
        trained = duplicated(network).train()
        with torch.enable_grad(), counter:
            outputs = tensors_of(run_forward(trained, samples))
            loss = sum(output.float().sum() for output in outputs if output.requires_grad)
            has_backward = isinstance(loss, Tensor)
            if isinstance(loss, Tensor):
                loss.backward()  # type: ignore[no-untyped-call]
    return TrainingFlops(
        per_sample=counter.total // 2,
        by_operator={name: flops // 2 for name, flops in counter.by_operator.items()},
        has_backward=has_backward,
        unsupported=counter.unsupported,
    )


def count_training_flops(network: nn.Module, example: Example) -> int:
    """The number of :func:`training_flops` alone.

    >>> network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    >>> count_training_flops(network, torch.zeros(1, 3))  # 3 x 2 x 20, less the input's gradient
    96

    Raises:
        TypeError: If ``example`` is neither a tensor nor a tuple nor a dict.
        ValueError: If ``example`` holds no sample, or the network does not take it.
    """
    return training_flops(network, example).per_sample
