"""The most bytes of activations that are alive at once in a forward pass."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from lightning_cost.cost.flop_counter import unfused
from lightning_cost.cost.forward import (
    Example,
    map_tensors,
    observing,
    run_forward,
    tensors_of,
    with_batch_size,
)
from lightning_cost.cost.liveness import Step, peak_of_steps
from lightning_cost.cost.storage import storage_bytes, storage_of


def peak_memory_bytes(network: nn.Module, example: Example, *, batch_size: int = 1) -> int:
    """Peak bytes of live activations in one forward pass of a batch, inputs included.

    A tensor lives from the operator that makes it to the last one that reads it, whatever Python
    still refers to; inputs live from the start, outputs to the end. As in every deployment
    runtime, an element-wise operator writes over an input that nobody needs again, and a tensor
    that is quantised at once is only ever stored quantised. Weights and the runtimes' own work
    space are left out. The network is left as it was found.

    Args:
        network: Any network.
        example: What one forward pass takes.
        batch_size: Samples in a forward pass.

    >>> peak_memory_bytes(nn.Sequential(nn.Linear(2, 8), nn.ReLU()), torch.zeros(1, 2))
    40

    Raises:
        TypeError: If ``example`` is neither a tensor nor a tuple nor a dict.
        ValueError: If ``example`` holds no sample, or the network does not take it.
    """
    return peak_of_steps(recorded_steps(network, example, batch_size=batch_size))


def recorded_steps(network: nn.Module, example: Example, *, batch_size: int = 1) -> list[Step]:
    """The operators that ``network`` runs for a batch, and the buffers that they read and write.

    Raises:
        TypeError: If ``example`` is neither a tensor nor a tuple nor a dict.
        ValueError: If ``example`` holds no sample, or the network does not take it.
    """
    sample = map_tensors(Tensor.clone, with_batch_size(example, batch_size))
    with observing(network):
        recorder = _Recorder(ignored=[*network.parameters(), *network.buffers()])
        recorder.write(tensors_of(sample))
        with unfused(), recorder:
            outputs = run_forward(network, sample)
        recorder.read(tensors_of(outputs))
    return recorder.steps


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down, operator by operator, which storages are read and which are new."""

    def __init__(self, *, ignored: list[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.steps: list[Step] = []
        self._names = WeakIdKeyDictionary()
        self._num_names = 0
        self._ignored = WeakIdKeyDictionary()
        self._ignore(ignored)

    def write(self, tensors: list[Tensor]) -> None:
        """A step that makes ``tensors`` out of nothing."""
        self.steps.append(Step((), self._new(tensors)))

    def read(self, tensors: list[Tensor]) -> None:
        """A step that only needs ``tensors``."""
        self.steps.append(Step(self._known(tensors), {}))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        reads = self._known(tensors_of((args, kwargs)))
        result = func(*args, **kwargs)
        if not reads:  # made of weights alone, or of nothing: a constant
            self._ignore(tensors_of(result))
            return result
        is_recoding = getattr(func, "namespace", "") == "quantized_decomposed"
        self.steps.append(
            Step(
                reads,
                self._new(tensors_of(result)),
                is_elementwise=is_recoding or torch.Tag.pointwise in getattr(func, "tags", ()),
                is_recoding=is_recoding,
                operator=str(getattr(func, "_overloadpacket", func)),
            )
        )
        return result

    def _ignore(self, tensors: list[Tensor]) -> None:
        for tensor in tensors:
            self._ignored[storage_of(tensor)] = True

    def _known(self, tensors: list[Tensor]) -> tuple[int, ...]:
        storages = [storage_of(tensor) for tensor in tensors]
        names = [self._names[storage] for storage in storages if storage in self._names]
        return tuple(dict.fromkeys(names))

    def _new(self, tensors: list[Tensor]) -> dict[int, int]:
        made = {}
        for tensor in tensors:
            storage = storage_of(tensor)
            if storage not in self._names and storage not in self._ignored:
                self._names[storage] = self._num_names
                made[self._num_names] = storage_bytes(storage)
                self._num_names += 1
        return made
