"""What the next step of a run will use, and what ending it will, from how it went so far."""

from collections import deque
from collections.abc import Mapping
from typing import Any, TypeAlias

from lightning_cost.cost.plain_data import LARGEST, amounts, items

Used: TypeAlias = Mapping[str, float]
"""What a run has used, by the names of a training budget."""

NUM_STEPS, NUM_EPOCH_ENDS = 50, 3
MARGIN = 1.5
"""How much longer than any of the last steps the next one is taken to be, in all but FLOPs."""
_SHARE_OF_VALIDATION = 0.5


class Forecast:
    """Predicts from the largest of the last steps, and of the last ends of an epoch.

    A fit that is told to stop still validates once and writes a checkpoint; so the end of an epoch
    stands for the end of the fit. Until there was one, a validation batch is taken to use half of
    what a training step does.

    >>> forecast = Forecast()
    >>> for flops in (0, 10, 20):
    ...     forecast.step_ended({"flops": flops})
    >>> forecast.next_step(num_validation_batches=2)  # a step, and two validation batches
    {'flops': 20.0}
    """

    def __init__(self) -> None:
        self._steps: deque[Used] = deque(maxlen=NUM_STEPS)
        self._epoch_ends: deque[Used] = deque(maxlen=NUM_EPOCH_ENDS)
        self._last: Used | None = None

    def step_ended(self, used: Used) -> None:
        """A training step is over, and the run has used ``used`` by now."""
        if self._last is not None:
            self._steps.append(_difference(used, self._last))
        self._last = used

    def epoch_ended(self, used: Used) -> None:
        """Validation and all else at the end of an epoch is over."""
        if self._last is not None:
            self._epoch_ends.append(_difference(used, self._last))

    def interrupted(self, used: Used) -> None:
        """What came since the last step was none: a search, say, or the end of an epoch."""
        self._last = used

    def next_step(self, *, num_validation_batches: int = 0, is_last_batch: bool = False) -> Used:
        """What another step, and the end of the fit after it, will use; empty if nobody knows.

        Args:
            num_validation_batches: Of one validation.
            is_last_batch: Whether an epoch ends first.
        """
        if not self._steps:
            return {}
        step = with_margin(_largest(self._steps))
        end = self.ending(num_validation_batches)
        num_ends = 2 if is_last_batch else 1
        return {name: value + num_ends * end.get(name, 0.0) for name, value in step.items()}

    def ending(self, num_validation_batches: int = 0) -> Used:
        """What the end of an epoch, and so that of the fit, will use; empty if nobody knows."""
        if self._epoch_ends:
            return with_margin(_largest(self._epoch_ends))
        share = _SHARE_OF_VALIDATION * num_validation_batches
        step = with_margin(_largest(self._steps)) if self._steps else {}
        return {name: share * value for name, value in step.items()}

    def state_dict(self) -> dict[str, Any]:
        """The last steps and ends, as plain data."""
        return {
            "steps": [dict(_largest(self._steps))] if self._steps else [],
            "epoch_ends": [dict(end) for end in self._epoch_ends],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`.

        Raises:
            ValueError: If an entry is of another type than was written.
        """
        for name, held in (("steps", self._steps), ("epoch_ends", self._epoch_ends)):
            # what all ranks did together is corrected now and then, also downwards
            held.extend(amounts(each, name, least=-LARGEST) for each in items(state[name], name))


def with_margin(used: Used) -> Used:
    """``used``, more of what is not the same every time."""
    return {name: value * (1.0 if name == "flops" else MARGIN) for name, value in used.items()}


def _difference(now: Used, before: Used) -> Used:
    return {name: value - before[name] for name, value in now.items() if name in before}


def _largest(used: deque[Used]) -> Used:
    return {name: max(each.get(name, 0.0) for each in used) for name in used[-1]}
