"""What other counters say of a network, and which operators they pass over."""

import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from lightning_cost.cost.flop_counter import FlopCounter, unfused
from lightning_cost.cost.forward import Example, call_arguments, run_forward, tensors_of
from lightning_cost.cost.macs import MacReport

TOLERANCE = 1e-3
_FVCORE_PRODUCTS = ("conv", "linear", "matmul", "einsum", "addmm", "bmm", "mm", "baddbmm")
_ATTENTION = F.scaled_dot_product_attention
_FUNCTION_OF = {"_native_multi_head_attention": "multi_head_attention_forward"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """Another counter's figure.

    Args:
        macs: Its MACs.
        lacking: MACs, by our count, of the operators that it does not count, by name.
    """

    macs: int
    lacking: dict[str, int]

    def difference(self, ours: int) -> float:
        """Its MACs less ours, as a share of ours."""
        return self.macs / ours - 1 if ours else float(self.macs > 0)

    def reason(self, ours: int) -> str:
        """Why it differs by more than the tolerance; empty if it does not."""
        if abs(self.difference(ours)) <= TOLERANCE:
            return ""
        if abs(self.macs + sum(self.lacking.values()) - ours) > TOLERANCE * ours:
            return "not explained"
        named = ", ".join(f"{name} ({macs:,})" for name, macs in sorted(self.lacking.items()))
        return f"does not count {named}"


def torch_reference(network: nn.Module, example: Example, report: MacReport) -> Reference:
    """``torch.utils.flop_counter``; the network's parameters must not require gradients.

    Whole-layer kernels, which it counts as nothing, are switched off.
    """
    known = {str(operator) for operator in flop_registry}
    with unfused(), torch.no_grad(), FlopCounterMode(display=False) as counter:
        run_forward(network, example)
    lacking = {name: macs for name, macs in report.by_operator.items() if name not in known}
    return Reference(macs=counter.get_total_flops() // 2, lacking=lacking)


def fvcore_reference(network: nn.Module, example: Example) -> Reference:
    """``fvcore``'s tables of convolutions and matrix products, on the CPU.

    Raises:
        Exception: Of any kind, if ``torch.jit.trace``, which it stands on, does not take the
            network.
    """
    from fvcore.nn import FlopCountAnalysis

    args, kwargs = call_arguments(example)
    traced = _OfTensors(network, list(kwargs)) if kwargs else network
    with _quiet():
        analysis = FlopCountAnalysis(traced, tuple(kwargs.values()) if kwargs else args)
        analysis.uncalled_modules_warnings(False).tracer_warnings("none")
        by_operator = analysis.by_operator()
        unknown = analysis.unsupported_ops()
    macs = sum(by_operator[name] for name in _FVCORE_PRODUCTS if name in by_operator)
    names = {operator.partition("::")[2] for operator in unknown}
    counter = FlopCounter()
    lacking = _MacsOf(names, counter)
    with torch.no_grad(), counter, lacking, lacking.following_attention():
        run_forward(network, example)
    return Reference(macs=int(macs), lacking=dict(lacking.macs))


class _OfTensors(nn.Module):
    """A network whose keyword arguments are positional, and whose outputs are tensors."""

    def __init__(self, network: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, *args: Tensor) -> tuple[Tensor, ...]:
        """The tensors of the output."""
        return tuple(tensors_of(self.network(**dict(zip(self.names, args, strict=True)))))


class _MacsOf(TorchFunctionMode):
    """Adds up the MACs of the named functions."""

    def __init__(self, names: set[str], counter: FlopCounter) -> None:
        super().__init__()
        self.macs: Counter[str] = Counter()
        self._names = {_FUNCTION_OF.get(name, name): name for name in names}
        self._counter = counter

    def counted(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Call ``function``, and keep its MACs if it is named."""
        before = self._counter.total
        result = function(*args, **kwargs)
        name = self._names.get(getattr(function, "__name__", ""))
        if name is not None and self._counter.total > before:
            self.macs[name] += (self._counter.total - before) // 2
        return result

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        # attention is also called inside of functions, where no mode sees it
        if func is _ATTENTION:
            return func(*args, **(kwargs or {}))
        return self.counted(func, args, kwargs or {})

    @contextmanager
    def following_attention(self) -> Iterator[None]:
        """See attention wherever it is called."""

        def attention(*args: Any, **kwargs: Any) -> Any:
            return self.counted(_ATTENTION, args, kwargs)

        with mock.patch.object(F, "scaled_dot_product_attention", attention):
            yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the tracer's warnings, of which there are many."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
