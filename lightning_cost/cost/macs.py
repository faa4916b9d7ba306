"""Multiply-accumulates of a forward pass, and FLOPs of a training step; 1 MAC is 2 FLOPs.

Counted operator by operator, as ``torch.utils.flop_counter`` does.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from lightning_cost.cost.flop_formulas import MORE_FORMULAS, is_uncounted_work
from lightning_cost.cost.forward import (
    Example,
    observing,
    run_forward,
    tensors_of,
    with_batch_size,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class MacReport:
    """Multiply-accumulates of one forward pass of one sample.

    Args:
        total: MACs of the whole network.
        by_module: MACs of each module by its name in ``named_modules``, those of its children
            included; the network itself is ``""``. A module that does none has 0.
        unsupported: Operators that the network ran, that do real work and that no formula counts.
    """

    total: int
    by_module: dict[str, int]
    unsupported: tuple[str, ...] = ()

    @property
    def flops(self) -> int:
        """FLOPs of the forward pass: two for each MAC."""
        return 2 * self.total


def count_macs(network: nn.Module, example: Example) -> MacReport:
    """Count the multiply-accumulates of ``network`` in evaluation mode for one sample.

    Convolutions, matrix products, attention and recurrent layers count; element-wise operators,
    normalisation and pooling do not. The network is left as it was found. Works on every device,
    ``meta`` included.

    >>> count_macs(nn.Linear(3, 4), torch.zeros(8, 3)).total
    12

    Raises:
        TypeError: If ``example`` is neither a tensor nor a tuple nor a dict.
        ValueError: If ``example`` holds no sample.
    """
    sample = with_batch_size(example, 1)
    counter = _FlopCounter()
    with observing(network), _unfused(), counter.following(network), counter:
        run_forward(network, sample)
    return MacReport(
        total=counter.total // 2,
        by_module={name: flops // 2 for name, flops in counter.by_module.items()},
        unsupported=tuple(sorted(counter.unsupported)),
    )


def count_training_flops(network: nn.Module, example: Example) -> int:
    """FLOPs of a forward and backward pass per sample, of a copy of ``network`` in training mode.

    Two samples are run, and the count halved: batch normalisation refuses a single value.
    Parameters that do not require a gradient save their share, as they do in training.

    >>> network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    >>> count_training_flops(network, torch.zeros(1, 3))  # 3 x 2 x 20, less the input's gradient
    96

    Raises:
        TypeError: If ``example`` is neither a tensor nor a tuple nor a dict.
        ValueError: If ``example`` holds no sample.
    """
    samples = with_batch_size(example, 2)
    counter = _FlopCounter()
    with observing(network):
        trained = copy.deepcopy(network).train()
        with torch.enable_grad(), _unfused(), counter:
            outputs = tensors_of(run_forward(trained, samples))
            loss = sum(output.float().sum() for output in outputs if output.requires_grad)
            if isinstance(loss, torch.Tensor):
                loss.backward()  # type: ignore[no-untyped-call]
    return counter.total // 2


class _FlopCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up FLOPs, in total and for the modules that are running."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0
        self.by_module: dict[str, int] = {}
        self.unsupported: set[str] = set()
        self._running: list[str] = []

    @contextmanager
    def following(self, network: nn.Module) -> Iterator[None]:
        """Attribute what is counted to the modules of ``network``."""
        handles = []
        for name, module in network.named_modules():
            self.by_module[name] = 0
            enter, leave = self._hooks(name)
            handles.append(module.register_forward_pre_hook(enter))
            handles.append(module.register_forward_hook(leave, always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hooks(self, name: str) -> tuple[Callable[..., None], Callable[..., None]]:
        def enter(*_: object) -> None:
            self._running.append(name)

        def leave(*_: object) -> None:
            self._running.pop()

        return enter, leave

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        packet = getattr(func, "_overloadpacket", func)
        formula = MORE_FORMULAS.get(packet) or flop_registry.get(packet)
        if formula is None and hasattr(func, "decompose"):
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        if formula is not None:
            self._add(formula(*args, **kwargs, out_val=result))
        elif is_uncounted_work(func):
            self.unsupported.add(str(packet))
        return result

    def _add(self, flops: int) -> None:
        self.total += flops
        for name in set(self._running):
            self.by_module[name] += flops


@contextmanager
def _unfused() -> Iterator[None]:
    """Run without whole-layer kernels and compiled graphs, which would hide their operators."""
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
