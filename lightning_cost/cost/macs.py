"""Multiply-accumulates and activations of a forward pass; 1 MAC is 2 FLOPs."""

from collections import Counter
from dataclasses import dataclass, field

from torch import nn

from lightning_cost.cost.attribution import Attribution
from lightning_cost.cost.flop_counter import FlopCounter, Operation
from lightning_cost.cost.forward import (
    Example,
    observing,
    run_forward,
    tensors_of,
    with_batch_size,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class MacReport:
    """Multiply-accumulates and activations of one forward pass of one sample.

    Activations are the values that the counted operators write, as ``fvcore`` counts them.

    Args:
        total: MACs of the whole network.
        by_module: MACs of each module by its name in ``named_modules``, those of its children
            included; the network itself is ``""``. A module that does none has 0.
        by_operator: MACs of each operator by its name, as in ``aten.addmm``. Which operators these
            are is the device's affair: attention, say, is one on the CPU and many on ``meta``.
        activations_by_module: Activations, likewise.
        activations_by_operator: Activations, likewise.
        unsupported: Operators that the network ran, that do real work and that no formula counts.
        unused: Modules that hold weights or compute, and that never ran; one stands for all that
            it holds.
    """

    total: int
    by_module: dict[str, int]
    by_operator: dict[str, int] = field(default_factory=dict)
    activations_by_module: dict[str, int] = field(default_factory=dict)
    activations_by_operator: dict[str, int] = field(default_factory=dict)
    unsupported: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    @property
    def flops(self) -> int:
        """FLOPs of the forward pass: two for each MAC."""
        return 2 * self.total

    @property
    def activations(self) -> int:
        """Activations of the whole network."""
        return sum(self.activations_by_operator.values())


def count_macs(network: nn.Module, example: Example) -> MacReport:
    """Count the multiply-accumulates of ``network`` in evaluation mode for one sample.

    Convolutions, matrix products, attention and recurrent layers count; element-wise operators,
    normalisation and pooling do not. The network is left as it was found. Works on every device,
    ``meta`` included, where nothing is allocated.

    >>> import torch
    >>> count_macs(nn.Linear(3, 4), torch.zeros(8, 3)).total
    12

    Raises:
        TypeError: If ``example`` is neither a tensor nor a tuple nor a dict.
        ValueError: If ``example`` holds no sample, or the network does not take it.
    """
    sample = with_batch_size(example, 1)
    attribution = Attribution(network)
    macs: Counter[str] = Counter()
    written: Counter[str] = Counter()
    written_by_operator: Counter[str] = Counter()

    def observe(operation: Operation) -> None:
        modules = attribution.modules_of(operation)
        if operation.flops is None:
            return
        values = sum(tensor.numel() for tensor in tensors_of(operation.result)[:1])
        written_by_operator[operation.name] += values
        for name in modules:
            macs[name] += operation.flops // 2
            written[name] += values

    counter = FlopCounter(observe)
    with observing(network), attribution.following(), counter:
        run_forward(network, sample)
    names = [name for name, _ in network.named_modules()]
    return MacReport(
        total=counter.total // 2,
        by_module={name: macs[name] for name in names},
        by_operator={name: flops // 2 for name, flops in counter.by_operator.items()},
        activations_by_module={name: written[name] for name in names},
        activations_by_operator=dict(written_by_operator),
        unsupported=counter.unsupported,
        unused=attribution.unused(),
    )
