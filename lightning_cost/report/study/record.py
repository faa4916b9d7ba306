"""A study and its trials as plain records, without the library that carried them out."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from lightning_cost.cost.resource import Resource
from lightning_cost.report.quantities import SPEND_UNITS
from lightning_cost.report.sweep.rows import Direction

State: TypeAlias = Literal[
    "finished", "infeasible", "repeated", "pruned", "failed", "running", "waiting"
]
STATES: tuple[State, ...] = get_args(State)
_RESOURCES = [resource.value for resource in Resource]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialRecord:
    """One trial of a study.

    Args:
        number: In the order in which they were asked for, from 0.
        state: ``"infeasible"``: known to break a limit, and never trained;
            ``"repeated"``: not trained, as an earlier trial had the same settings.
        settings: What was sampled, by key of the configuration.
        values: By objective, where it finished.
        reached: Value of the only objective when it was last reported, where it was reported.
        predicted: Cost before training, by limited resource.
        violations: Cost / limit − 1 of each broken limit: predicted of an infeasible trial,
            measured of a finished one.
        started: Time in ISO 8601.
        seconds: From then until its end, pauses included.
        run_dir: Relative to the sweep's directory; ``None`` where there is none.
        reason: Why it did not finish, or which trial it repeats.
    """

    number: int
    state: State
    settings: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)
    reached: float | None = None
    predicted: Mapping[str, float | None] = field(default_factory=dict)
    violations: Mapping[str, float | None] = field(default_factory=dict)
    started: str | None = None
    seconds: float | None = None
    run_dir: str | None = None
    reason: str | None = None

    def __post_init__(self) -> None:
        if self.state not in STATES:
            raise ValueError(f"state must be one of {', '.join(STATES)}, got {self.state!r}")
        _require_among(self.predicted, "predicted", _RESOURCES)
        _require_among(self.violations, "violations", _RESOURCES)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Importance:
    """How much of an objective each parameter explains.

    Args:
        shares: By parameter, with the sum 1; empty where they are not known.
        reason: Why they are not known.
    """

    shares: Mapping[str, float] = field(default_factory=dict)
    reason: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """A study as it stands.

    Args:
        name: Of the study in its storage.
        objectives: Whether each is to be small or large, by name.
        sampler, pruner, seed: How the last start of the sweep chose; ``None`` where not recorded.
        limits: Of the model budget, by resource, as far as all trials share them.
        space: The values of each parameter, as the user wrote them.
        trials: In the order of their numbers.
        importances: Of the parameters, by objective.
        training: Limits on what all runs use together, by the names of a training budget.
        used: What all runs used, those included that left no report, by the same names.
        stop_reason: Why the last start of the sweep ended; ``None`` where it did not.
    """

    name: str
    objectives: Mapping[str, Direction]
    sampler: str | None = None
    pruner: str | None = None
    seed: int | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    space: Mapping[str, str] = field(default_factory=dict)
    trials: tuple[TrialRecord, ...] = ()
    importances: Mapping[str, Importance] = field(default_factory=dict)
    training: Mapping[str, float] = field(default_factory=dict)
    used: Mapping[str, float] = field(default_factory=dict)
    stop_reason: str | None = None

    def __post_init__(self) -> None:
        _require_among(self.limits, "limits", _RESOURCES)
        _require_among(self.training, "training", SPEND_UNITS)
        _require_among(self.used, "used", SPEND_UNITS)

    def of_state(self, *states: State) -> list[TrialRecord]:
        """The trials in one of ``states``.

        >>> trials = (TrialRecord(number=0, state="failed"), TrialRecord(number=1, state="pruned"))
        >>> study = Study(name="sweep", objectives={"acc": "max"}, trials=trials)
        >>> [trial.number for trial in study.of_state("pruned")]
        [1]
        """
        return [trial for trial in self.trials if trial.state in states]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self) | {"trials": [trial.to_dict() for trial in self.trials]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Study":
        """From plain data that keeps ``sweep_schema.json``.

        >>> study = Study(name="sweep", objectives={"acc": "max"})
        >>> Study.from_dict(study.to_dict()) == study
        True
        """
        trials = tuple(TrialRecord(**trial) for trial in data["trials"])
        importances = {name: Importance(**each) for name, each in data["importances"].items()}
        return cls(**{**data, "trials": trials, "importances": importances})


def _require_among(names: Iterable[str], what: str, known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{what} must be of {', '.join(known)}, got {name!r:.60}")
