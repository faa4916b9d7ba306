"""What the next step of a run will use, and what ending it will, from how it went so far."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from lightning_cost.cost.plain_data import LARGEST, amounts, items

Used: TypeAlias = Mapping[str, float]
"""What a run has used, by the names of a training budget."""

NUM_STEPS, NUM_VALIDATIONS, NUM_EPOCH_ENDS = 50, 3, 3
MARGIN = 1.5
"""How much longer than any of the last steps the next one is taken to be, in all but FLOPs."""
_SHARE_OF_VALIDATION = 0.5


class Forecast:
    """Predicts from the largest of the last steps, validations and ends of an epoch.

    A fit that is told to stop still validates once and writes a checkpoint; so a validation and
    the end of an epoch stand for the end of the fit. Until there was a validation, each of its
    batches is taken to use half of what a training step does.

    >>> forecast = Forecast()
    >>> for flops in (0, 10, 20):
    ...     forecast.step_ended({"flops": flops})
    >>> forecast.next_step(num_validation_batches=2)  # a step, and two validation batches
    {'flops': 20.0}
    """

    def __init__(self) -> None:
        self._steps: deque[Used] = deque(maxlen=NUM_STEPS)
        self._validations: deque[Used] = deque(maxlen=NUM_VALIDATIONS)
        self._epoch_ends: deque[Used] = deque(maxlen=NUM_EPOCH_ENDS)
        self._last: Used | None = None

    def step_ended(self, used: Used) -> None:
        """A training step is over, and the run has used ``used`` by now."""
        if self._last is not None:
            self._steps.append(_difference(used, self._last))
        self._last = used

    def validated(self, used: Used) -> None:
        """A validation is over, within an epoch or at its end."""
        if self._last is not None:
            self._validations.append(_difference(used, self._last))
        self._last = used

    def epoch_ended(self, used: Used) -> None:
        """All that comes at the end of an epoch, after its validation, is over."""
        if self._last is not None:
            self._epoch_ends.append(_difference(used, self._last))

    def interrupted(self, used: Used) -> None:
        """What came since the last step was none: a search, say, or the end of an epoch."""
        self._last = used

    def next_step(
        self,
        *,
        num_validation_batches: int = 0,
        validates_first: bool = False,
        is_last_batch: bool = False,
    ) -> Used:
        """What another step, and the end of the fit after it, will use; empty if nobody knows.

        Args:
            num_validation_batches: Of one validation.
            validates_first: Whether a validation comes before the step; the end has its own.
            is_last_batch: Whether an epoch ends before the step.
        """
        if not self._steps:
            return {}
        parts = [with_margin(_largest(self._steps)), self.ending(num_validation_batches)]
        if validates_first:
            parts.append(self._validation(num_validation_batches))
        if is_last_batch:
            parts.append(self._epoch_end())
        return _sum(parts)

    def ending(self, num_validation_batches: int = 0) -> Used:
        """What the end of the fit, with a validation, will use; empty if nobody knows."""
        return _sum([self._validation(num_validation_batches), self._epoch_end()])

    def _validation(self, num_batches: int) -> dict[str, float]:
        if self._validations:
            return with_margin(_largest(self._validations))
        share = _SHARE_OF_VALIDATION * num_batches
        step = with_margin(_largest(self._steps)) if self._steps else {}
        return {name: share * value for name, value in step.items()}

    def _epoch_end(self) -> dict[str, float]:
        return with_margin(_largest(self._epoch_ends)) if self._epoch_ends else {}

    def state_dict(self) -> dict[str, Any]:
        """The last steps, validations and ends, as plain data."""
        return {
            "steps": [dict(_largest(self._steps))] if self._steps else [],
            "validations": [dict(validation) for validation in self._validations],
            "epoch_ends": [dict(end) for end in self._epoch_ends],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`.

        Of a state without validations the ends of epochs held them: they are taken for validations.

        Raises:
            ValueError: If an entry is of another type than was written.
        """
        self._steps.extend(_all_used(state, "steps"))
        if "validations" not in state:
            self._validations.extend(_all_used(state, "epoch_ends"))
            return
        self._validations.extend(_all_used(state, "validations"))
        self._epoch_ends.extend(_all_used(state, "epoch_ends"))


def with_margin(used: Used) -> dict[str, float]:
    """``used``, more of what is not the same every time."""
    return {name: value * (1.0 if name == "flops" else MARGIN) for name, value in used.items()}


def _all_used(state: Mapping[str, Any], name: str) -> list[Used]:
    # what all ranks did together is corrected now and then, also downwards
    return [amounts(each, name, least=-LARGEST) for each in items(state[name], name)]


def _sum(parts: Sequence[Used]) -> dict[str, float]:
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: sum(part.get(name, 0.0) for part in parts) for name in names}


def _difference(now: Used, before: Used) -> Used:
    return {name: value - before[name] for name, value in now.items() if name in before}


def _largest(used: deque[Used]) -> Used:
    return {name: max(each.get(name, 0.0) for each in used) for name in used[-1]}
