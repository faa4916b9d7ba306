"""FLOPs of the steps of a run: real steps are counted, the like of them are added up."""

from typing import Any, TypeAlias

import torch

from lightning_cost.cost.flop_counter import FlopCounter
from lightning_cost.cost.plain_data import entries, texts
from lightning_cost.network.batch import shapes_of

LARGEST_NUM_SHAPES = 32
"""Shapes of batches whose steps are counted; those of further ones are estimated."""
_NUM_COUNTED = 2
_Shapes: TypeAlias = tuple[torch.Size, ...]
"""Of all tensors of a batch: the target or a mask may take the most of a step."""

VARYING = "steps on batches of one shape differed: their mean"
SCALED = "batches of many shapes: some by the number of their values"
NO_TENSOR = "batches without a tensor: as if all were alike"
PER_SAMPLE = "counted on a copy of the network alone, as it is compiled: without loss and optimizer"


class StepFlops:
    """Adds up the FLOPs of steps by the shapes of all tensors of their batch.

    The first two steps on the same shapes are counted while they run, all others taken to be like
    them: a step costs a comparison then. What an optimizer update takes is counted apart, as with
    accumulated gradients not every step has one.

    Attributes:
        has_updates: Whether an update ends a step, and :meth:`update` is called before each; else
            what updates take is counted as a part of the steps.
        flops_per_sample: What a sample takes, where steps cannot be counted; else ``None``.

    >>> steps, weight = StepFlops(), torch.ones(2, 3, requires_grad=True)
    >>> for batch in torch.ones(4, 5, 2):
    ...     steps.begin(batch)
    ...     (batch @ weight).sum().backward()
    ...     steps.end()
    >>> steps.total, steps.notes  # 4 steps of 5 x 2 x 3 MACs, forward and backward
    (480, ())
    """

    def __init__(self) -> None:
        self.has_updates = False
        self.flops_per_sample: float | None = None
        self._notes: dict[str, None] = {}
        self._unsupported: set[str] = set()
        self._done: float = 0
        self._counts: dict[_Shapes, list[int]] = {}
        self._flops_per_value: float | None = None
        self._update_flops: int | None = None
        self._shapes: _Shapes = ()
        self._is_known = False
        self._num_alike = 0
        self._num_updates = 0
        self._counter: FlopCounter | None = None
        self._before_update: int | None = None

    @property
    def total(self) -> float:
        """FLOPs of all steps so far; an integer as long as they are exact."""
        self._settle()
        return self._done

    @property
    def notes(self) -> tuple[str, ...]:
        """Why the total is an estimate; empty if it is exact."""
        self._settle()
        return tuple(self._notes)

    @property
    def unsupported(self) -> tuple[str, ...]:
        """Operators that ran, that do real work and that are not in the total."""
        return tuple(sorted(self._unsupported))

    def begin(self, batch: Any) -> None:
        """A step on ``batch`` begins; one that was begun and not ended is forgotten."""
        shapes = shapes_of(batch)
        if self._is_known and shapes == self._shapes:
            return
        self.abort()
        self._settle()
        self._shapes, self._is_known = shapes, self._knows(shapes)
        if not self._is_known:
            self._counter = FlopCounter()
            self._counter.__enter__()

    def update(self) -> None:
        """The optimizer is about to update the weights."""
        if self._counter is None:
            self._num_updates += 1
        elif self.has_updates and self._before_update is None:
            self._before_update = self._counter.total

    def end(self) -> None:
        """The step that was begun is over."""
        if self._counter is None:
            self._num_alike += 1
            return
        counted, before = self._counter.total, self._before_update
        self._unsupported |= set(self._counter.unsupported)
        self.abort()
        self._done += counted
        if before is not None:
            self._update_flops = counted - before
        self._counts.setdefault(self._shapes, []).append(counted if before is None else before)
        self._flops_per_value = None
        self._is_known = self._knows(self._shapes)

    def abort(self) -> None:
        """Leave a step that will not end, as after an error."""
        if self._counter is not None:
            counter, self._counter, self._before_update = self._counter, None, None
            counter.__exit__(None, None, None)

    def forget_shapes(self) -> None:
        """Count anew: the network has another structure, or trains other layers."""
        self.abort()
        self._settle()
        self._counts.clear()
        self._flops_per_value, self._update_flops, self._is_known = None, None, False

    def state_dict(self) -> dict[str, Any]:
        """What the notes and the unsupported operators are, as plain data."""
        return {"notes": list(self.notes), "unsupported": list(self.unsupported)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`; the total begins at zero."""
        known = entries(state, "steps")
        self._notes |= dict.fromkeys(texts(known["notes"], "notes"))
        self._unsupported |= set(texts(known["unsupported"], "unsupported"))

    def _knows(self, shapes: _Shapes) -> bool:
        """Whether a step on ``shapes`` need not be counted."""
        if self.flops_per_sample is not None:
            return True
        if self.has_updates and self._update_flops is None:
            return False
        counts = self._counts.get(shapes)
        if counts is None:
            return len(self._counts) >= LARGEST_NUM_SHAPES
        return len(counts) >= _NUM_COUNTED

    def _settle(self) -> None:
        """Add the steps that were not counted themselves."""
        if self._num_alike:
            self._done += self._num_alike * self._flops_on(self._shapes)
            self._num_alike = 0
        if self._num_updates:
            self._done += self._num_updates * (self._update_flops or 0)
            self._num_updates = 0

    def _flops_on(self, shapes: _Shapes) -> float:
        """FLOPs of a step on ``shapes`` without the optimizer; notes why it is not exact."""
        first = next((shape for shape in shapes if shape), None)
        if self.flops_per_sample is not None:
            self._notes[PER_SAMPLE] = None
            return self.flops_per_sample * (1 if first is None else first[0])
        if first is None:
            self._notes[NO_TENSOR] = None
        counts = self._counts.get(shapes)
        if counts is None:
            self._notes[SCALED] = None
            return _size(shapes) * self._estimate_flops_per_value()
        if len(set(counts)) == 1:
            return counts[0]
        self._notes[VARYING] = None
        return sum(counts) / len(counts)

    def _estimate_flops_per_value(self) -> float:
        """Of a batch, as the mean over those that were counted; it changes when another one is."""
        if self._flops_per_value is None:
            ratios = [sum(found) / len(found) / _size(of) for of, found in self._counts.items()]
            self._flops_per_value = sum(ratios) / len(ratios)
        return self._flops_per_value


def _size(shapes: _Shapes) -> int:
    return max(1, sum(shape.numel() for shape in shapes))
