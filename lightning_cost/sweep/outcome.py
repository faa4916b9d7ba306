"""What became of a trial's run."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from optuna.trial import FrozenTrial

from lightning_cost.cost.plain_data import entries, items, number, text

OUTCOME = "outcome"
"""Of a trial: what its job said at its end; ``None`` from when it is launched anew."""
End: TypeAlias = Literal["finished", "pruned", "failed", "stopped"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of a trial's run.

    Args:
        state: How it ended; a stopped one can go on, as it only lacked room in the sweep's budget.
        values: Of the objectives, where it finished.
        constraints: Measured cost / limit − 1 by resource, where it finished.
        reason: Why it did not finish.
    """

    state: End
    values: tuple[float, ...] = ()
    constraints: Mapping[str, float] = field(default_factory=dict)
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Outcome":
        """From plain data.

        Raises:
            ValueError: If an entry is of another type than was written.

        >>> Outcome.from_dict(Outcome(state="finished", values=(0.5,)).to_dict()).values
        (0.5,)
        """
        if data["state"] not in get_args(End):
            known = ", ".join(get_args(End))
            raise ValueError(f"state must be one of {known}, got {data['state']!r:.60}")
        values = items(data["values"], "values")
        if not all(isinstance(value, (int, float)) for value in values):
            raise ValueError(f"values must be numbers, got {values!r:.60}")
        constraints = entries(data["constraints"], "constraints")
        return cls(
            state=data["state"],
            values=tuple(values),
            constraints={name: number(excess, name) for name, excess in constraints.items()},
            reason=None if data["reason"] is None else text(data["reason"], "reason"),
        )


def outcome_of(trial: FrozenTrial) -> Outcome | None:
    """What became of the last run of a trial; ``None`` where its job has not said.

    Raises:
        ValueError: If what was written is no such thing.
    """
    told = trial.user_attrs.get(OUTCOME)
    return None if told is None else Outcome.from_dict(told)
