"""FLOPs of whatever runs meanwhile: a forward pass, a training step, the optimizer's too.

Counted operator by operator, as ``torch.utils.flop_counter`` does; 1 MAC is 2 FLOPs.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from typing_extensions import Self

from lightning_cost.cost.flop_formulas import MORE_FORMULAS, is_uncounted_work


@dataclass(frozen=True, slots=True)
class Operation:
    """One operator that ran.

    Args:
        name: As in ``aten.addmm``.
        flops: What it did, or ``None`` where no formula counts it.
        arguments: Positional and keyword arguments.
        result: What it returned.
    """

    name: str
    flops: int | None
    arguments: tuple[tuple[Any, ...], dict[str, Any]]
    result: Any


class FlopCounter:
    """Counts the FLOPs of the operators that run while it is entered.

    Convolutions, matrix products, attention and recurrent layers count, forward and backward;
    element-wise operators, normalisation and pooling do not. Whole-layer kernels and compiled
    graphs, which would hide their operators, are switched off meanwhile. It may be entered again,
    and goes on from where it was. Around a training step it counts what the step does: forward
    passes, recomputed activations, backward passes and the products of the optimizer.

    Args:
        observe: Called after each operator.

    >>> network = torch.nn.Linear(3, 4)
    >>> with FlopCounter() as counter:
    ...     network(torch.zeros(2, 3)).sum().backward()
    >>> counter.total, counter.by_operator, counter.unsupported
    (96, {'aten.addmm': 48, 'aten.mm': 48}, ())
    """

    def __init__(self, observe: Callable[[Operation], None] | None = None) -> None:
        self.by_operator: dict[str, int] = {}
        self._unsupported: set[str] = set()
        self._observe = observe
        self._mode = _Mode(self._record)
        self._entered: list[ExitStack] = []

    @property
    def total(self) -> int:
        """FLOPs of everything so far."""
        return sum(self.by_operator.values())

    @property
    def unsupported(self) -> tuple[str, ...]:
        """Operators that ran, that do real work and that no formula counts."""
        return tuple(sorted(self._unsupported))

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(unfused())
            stack.enter_context(self._mode)
            self._entered.append(stack.pop_all())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._entered.pop().__exit__(kind, error, traceback)

    def _record(self, func: Any, operation: Operation) -> None:
        if operation.flops is not None:
            counted = self.by_operator.get(operation.name, 0)
            self.by_operator[operation.name] = counted + operation.flops
        elif is_uncounted_work(func):
            self._unsupported.add(operation.name)
        if self._observe is not None:
            self._observe(operation)


class _Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Hands each operator to ``record``, the parts of it where it only stands for others."""

    supports_higher_order_operators = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and the guard takes as long as the operator

    def __init__(self, record: Callable[[Any, Operation], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._record = record

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        packet = getattr(func, "_overloadpacket", func)
        formula = MORE_FORMULAS.get(packet) or flop_registry.get(packet)
        if formula is None:
            result = self._of_parts(func, args, kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        flops = None if formula is None else int(formula(*args, **kwargs, out_val=result))
        self._record(func, Operation(str(packet), flops, (args, kwargs), result))
        return result

    def _of_parts(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Run what ``func`` consists of under this mode, if it consists of other operators."""
        if func is torch.ops.higher_order.cond:
            predicate, if_true, if_false, operands = args
            with self:
                return (if_true if predicate else if_false)(*operands)
        if hasattr(func, "decompose"):
            with self:
                return func.decompose(*args, **kwargs)
        return NotImplemented


@contextmanager
def unfused() -> Iterator[None]:
    """Run without whole-layer kernels and compiled graphs, which would hide their operators."""
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
