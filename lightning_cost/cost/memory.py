"""The most bytes of activations that are alive at once in a forward pass."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from lightning_cost.cost.forward import (
    Example,
    map_tensors,
    observing,
    run_forward,
    tensors_of,
    with_batch_size,
)


def peak_memory_bytes(network: nn.Module, example: Example) -> int:
    """Peak bytes of live activations in one forward pass of one sample, inputs included.

    A tensor lives from the operator that makes it to the last one that reads it, whatever Python
    still refers to; inputs live from the start, outputs to the end. As in every deployment
    runtime, an element-wise operator writes over an input that nobody needs again, and a tensor
    that is quantised at once is only ever stored quantised. Weights and the runtimes' own work
    space are left out. The network is left as it was found.

    >>> peak_memory_bytes(nn.Sequential(nn.Linear(2, 8), nn.ReLU()), torch.zeros(1, 2))
    40

    Raises:
        TypeError: If ``example`` is neither a tensor nor a tuple nor a dict.
        ValueError: If ``example`` holds no sample.
    """
    sample = map_tensors(Tensor.clone, with_batch_size(example, 1))
    with observing(network):
        recorder = _Recorder(ignored=[*network.parameters(), *network.buffers()])
        recorder.write(tensors_of(sample))
        with recorder:
            outputs = run_forward(network, sample)
        recorder.read(tensors_of(outputs))
    return peak_of_steps(recorder.steps)


@dataclass(frozen=True, slots=True)
class Step:
    """One operator: the buffers that it reads, and the bytes of the new ones that it writes.

    Args:
        reads: Names of the buffers that it reads.
        writes: Bytes of each buffer that it makes, by name.
        is_elementwise: Whether it may write over its input.
        is_recoding: Whether it only quantises or dequantises.
    """

    reads: tuple[int, ...]
    writes: dict[int, int]
    is_elementwise: bool = False
    is_recoding: bool = False


def peak_of_steps(steps: Sequence[Step]) -> int:
    """The most bytes alive at any step, every buffer living until it is read for the last time.

    >>> peak_of_steps([Step((), {0: 4}), Step((0,), {1: 8}), Step((1,), {2: 2}), Step((2,), {})])
    12
    """
    steps = _without_dequantisation(steps)
    num_bytes = _stored_bytes(steps)
    last = {name: step for step, made in enumerate(steps) for name in (*made.writes, *made.reads)}
    peak = 0
    alive: set[int] = set()
    for index, step in enumerate(steps):
        alive.update(step.writes)
        peak = max(
            peak, sum(num_bytes[name] for name in alive) - _reused(step, index, last, num_bytes)
        )
        alive = {name for name in alive if last[name] > index}
    return peak


def _reused(step: Step, index: int, last: dict[int, int], num_bytes: dict[int, int]) -> int:
    """Bytes of the output that an element-wise step writes over an input no longer needed."""
    written = sum(num_bytes[name] for name in step.writes)
    fits = any(last[name] == index and num_bytes[name] >= written for name in step.reads)
    return written if step.is_elementwise and fits else 0


def _without_dequantisation(steps: Sequence[Step]) -> list[Step]:
    """The steps with each dequantised tensor read as the quantised one that it comes from."""
    origin: dict[int, int] = {}
    num_bytes: dict[int, int] = {}
    kept = []
    for step in steps:
        reads = tuple(dict.fromkeys(origin.get(name, name) for name in step.reads))
        num_bytes.update(step.writes)
        if step.is_recoding and reads and sum(step.writes.values()) > num_bytes[reads[0]]:
            origin.update(dict.fromkeys(step.writes, reads[0]))
        else:
            kept.append(replace(step, reads=reads))
    return kept


def _stored_bytes(steps: Sequence[Step]) -> dict[int, int]:
    """Bytes of each buffer; one that is only ever quantised has those of its quantised form."""
    num_bytes = {name: size for step in steps for name, size in step.writes.items()}
    made = dict(num_bytes)
    num_reads = Counter(name for step in steps for name in step.reads)
    for step in reversed(steps):
        if not step.is_elementwise or len(step.writes) != 1:
            continue
        (written,) = step.writes
        for name in step.reads:
            if num_reads[name] == 1 and (step.is_recoding or made[name] == made[written]):
                num_bytes[name] = min(num_bytes[name], num_bytes[written])
                break
    return num_bytes


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
            )
        )
        return result

    def _ignore(self, tensors: list[Tensor]) -> None:
        for tensor in tensors:
            self._ignored[tensor.untyped_storage()] = True

    def _known(self, tensors: list[Tensor]) -> tuple[int, ...]:
        storages = [tensor.untyped_storage() for tensor in tensors]
        names = [self._names[storage] for storage in storages if storage in self._names]
        return tuple(dict.fromkeys(names))

    def _new(self, tensors: list[Tensor]) -> dict[int, int]:
        made = {}
        for tensor in tensors:
            storage = tensor.untyped_storage()
            if storage not in self._names and storage not in self._ignored:
                self._names[storage] = self._num_names
                made[self._num_names] = storage.nbytes()
                self._num_names += 1
        return made
