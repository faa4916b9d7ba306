"""What became of a trial's run."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

OUTCOME = "outcome"


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of a trial's run.

    Args:
        state: How it ended; a stopped one can go on, as it only lacked room in the sweep's budget.
        values: Of the objectives, where it finished.
        constraints: Measured cost / limit − 1 by resource, where it finished.
        reason: Why it did not finish.
    """

    state: Literal["finished", "pruned", "failed", "stopped"]
    values: tuple[float, ...] = ()
    constraints: Mapping[str, float] = field(default_factory=dict)
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Outcome":
        """From plain data.

        >>> Outcome.from_dict(Outcome(state="finished", values=(0.5,)).to_dict()).values
        (0.5,)
        """
        return cls(**{**data, "values": tuple(data["values"])})
