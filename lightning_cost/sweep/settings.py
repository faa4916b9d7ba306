"""How a sweep is carried out: what ``hydra.sweeper`` is told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lightning_cost.budget.training import TrainingBudget
from lightning_cost.sweep.objectives import Objective, objectives_of
from lightning_cost.sweep.strategies import pruner_of


@dataclass(kw_only=True, slots=True)
class SweepSettings:
    """How a sweep is carried out.

    Args:
        objectives: Names of metrics or resources of the runs' reports; or names with
            ``"minimize"`` or ``"maximize"``, where the direction does not follow from the name.
        num_trials: How many feasible trials are run, those of earlier starts included.
        num_jobs: How many the launcher is given at once.
        sampler: ``"tpe"``, ``"gp"``, ``"nsga2"``, ``"cmaes"``, ``"grid"`` or ``"random"``.
        pruner: ``"none"``, ``"median"``, ``"hyperband"`` or ``"halving"``.
        seed: Of the sampler.
        storage: ``None`` for ``study.db`` in the sweep's directory, ``journal:PATH``, or a URL of
            a database.
        study: The study's name in its storage.
        training: Limits on what all runs use together.
        max_infeasible: After so many configurations in a row that are infeasible, or were trained
            already or are now, the sweep ends.
    """

    objectives: Sequence[str] | Mapping[str, str] = ("val/accuracy",)
    num_trials: int = 20
    num_jobs: int = 1
    sampler: str = "tpe"
    pruner: str = "none"
    seed: int = 0
    storage: str | None = None
    study: str = "sweep"
    training: TrainingBudget = field(default_factory=TrainingBudget)
    max_infeasible: int = 200
    found: tuple[Objective, ...] = field(init=False)

    def __post_init__(self) -> None:
        for name in ("num_trials", "num_jobs", "max_infeasible"):
            value = getattr(self, name)
            if not value >= 1:
                raise ValueError(f"{name} must be >= 1, got {value}; one is the least")
        self.found = objectives_of(self.objectives)
        pruner_of(self.pruner)
        if self.pruner != "none" and (len(self.found) > 1 or self.found[0].is_resource):
            raise ValueError(
                f"pruner must be none unless one metric alone is the objective, got "
                f"{self.pruner!r} for {', '.join(each.name for each in self.found)}; "
                "set hydra.sweeper.pruner=none"
            )

    @classmethod
    def of(cls, written: Mapping[str, Any]) -> "SweepSettings":
        """Settings from plain data, as a configuration file has them.

        >>> SweepSettings.of({"training": {"wall_clock_s": "1h"}}).training.limits()
        {'wall_clock_s': 3600.0}
        """
        training = TrainingBudget(**written.get("training") or {})
        return cls(**{**written, "training": training})
