"""Which module read which tensor in one forward pass, by the identity of the tensors."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lightning_cost.cost.forward import Example, observing, run_forward, tensors_of
from lightning_cost.network.original import require_workable


class Value(NamedTuple):
    """A tensor at one moment: changing it in place makes another value of it.

    Args:
        tensor: The tensor's identity.
        version: How often it had been changed in place.
    """

    tensor: int
    version: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One call of one module.

    Args:
        module: Its name, as in ``named_modules``.
        inputs: The tensors among its arguments.
        outputs: The tensors that it returned.
        returns_tensor: Whether it returned a bare tensor.
    """

    module: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    returns_tensor: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Read:
    """One function that computed tensors from tensors, or the network's caller.

    Args:
        function: As called, ``torch.nn.functional.relu`` say; ``None`` for the network's caller.
        outputs: The tensors that it computed.
    """

    function: Any
    outputs: tuple[Value, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataflow:
    """What one forward pass of a network did.

    Args:
        calls: In the order in which they ended: a module's call after those it made itself.
        reads: The functions that read each value.
        tensors: Every tensor that was seen, by identity, as the pass left it.
    """

    calls: tuple[Call, ...]
    reads: Mapping[Value, Sequence[Read]]
    tensors: Mapping[int, Tensor]

    def readers_of(self, value: Value) -> Sequence[Read]:
        """The functions that read ``value``."""
        return self.reads.get(value, ())

    def calls_of(self, module: str) -> list[Call]:
        """The calls of one module."""
        return [call for call in self.calls if call.module == module]

    def called_once(self) -> list[Call]:
        """The calls of modules that were called exactly once."""
        times = Counter(call.module for call in self.calls)
        return [call for call in self.calls if times[call.module] == 1]


def trace_dataflow(network: nn.Module, example: Example) -> Dataflow:
    """Run ``network`` once in evaluation mode and record its calls; it is left as it was found.

    Raises:
        ValueError: If a part of the network is TorchScript, whose reads nobody sees.
    """
    require_workable(network)
    recorder = _Recorder()
    handles = []
    for name, module in network.named_modules():
        handles.append(module.register_forward_pre_hook(recorder.entering, with_kwargs=True))
        handles.append(module.register_forward_hook(recorder.leaving(name)))
    try:
        with observing(network), _ReadRecorder(recorder):
            outputs = run_forward(network, example)
    finally:
        for handle in handles:
            handle.remove()
    recorder.read(recorder.values(outputs), Read(function=None))
    return Dataflow(
        calls=tuple(recorder.calls), reads=dict(recorder.reads), tensors=recorder.tensors
    )


class _Recorder:
    """Holds on to every tensor that it sees, so that no identity is given out twice."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.reads: dict[Value, list[Read]] = defaultdict(list)
        self.tensors: dict[int, Tensor] = {}
        self._open: list[tuple[Value, ...]] = []

    def entering(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        with torch._C.DisableTorchFunction():  # to look at a tensor is no function of it
            self._open.append(self.values((args, kwargs)))

    def leaving(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def record(module: nn.Module, args: Any, output: Any) -> None:
            with torch._C.DisableTorchFunction():
                outputs = self.values(output)
            self.calls.append(
                Call(
                    module=name,
                    inputs=self._open.pop(),
                    outputs=outputs,
                    returns_tensor=isinstance(output, Tensor),
                )
            )

        return record

    def values(self, tree: Any) -> tuple[Value, ...]:
        return tuple(self._value(tensor) for tensor in tensors_of(tree))

    def read(self, values: Sequence[Value], read: Read) -> None:
        for value in set(values):
            self.reads[value].append(read)

    def _value(self, tensor: Tensor) -> Value:
        self.tensors[id(tensor)] = tensor
        return Value(id(tensor), tensor._version)


class _ReadRecorder(TorchFunctionMode):
    """Records the functions that compute tensors from tensors; asking for a shape is not one."""

    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        operands = self._recorder.values((args, kwargs))
        result = func(*args, **kwargs)
        outputs = self._recorder.values(result)
        if outputs:
            self._recorder.read(operands, Read(function=func, outputs=outputs))
        return result
