"""The trials of a study, and telling what became of them."""

import contextlib
import warnings
from collections.abc import Mapping

import optuna
from optuna.samplers import GridSampler
from optuna.trial import FrozenTrial, Trial, TrialState

VERDICT = "verdict"
VIOLATIONS = "violations"
REASON = "reason"
REPEATS = "repeats"
"""Of a trial that was asked for again: the number of the one that was trained, or is now."""
_RUN_STATES = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING)


class Trials:
    """What the storage knows of the trials of a study, other processes' included.

    Args:
        study: Opened.
    """

    def __init__(self, study: optuna.Study) -> None:
        self._study = study

    def all(self, *states: TrialState) -> list[FrozenTrial]:
        """By number, if no ``states`` are given: else those in one of them. Not to be changed."""
        return self._study.get_trials(deepcopy=False, states=states or None)

    @property
    def num_run(self) -> int:
        """Trials that were trained, or are."""
        return sum(trial.state in _RUN_STATES and _is_own_run(trial) for trial in self.all())

    def finished(self) -> list[FrozenTrial]:
        """Trials that came to an end, and have values."""
        complete = self.all(TrialState.COMPLETE)
        return [trial for trial in complete if not trial.user_attrs.get(VIOLATIONS)]

    def failed(self) -> list[FrozenTrial]:
        """Trials that failed themselves."""
        return [trial for trial in self.all(TrialState.FAIL) if _is_own_run(trial)]

    def like(self, trial: Trial) -> FrozenTrial | None:
        """The first one that was trained with the same settings, and did not fail.

        Where there is none, the first one that was asked for before and is being trained now.
        """
        candidates = self.all(TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
        alike = [each for each in candidates if _is_own_run(each) and each.params == trial.params]
        ended = [each for each in alike if each.state is not TrialState.RUNNING]
        # of two that are asked for at once, the later one alone repeats the other
        return next(iter(ended or [each for each in alike if each.number < trial.number]), None)

    def tell(
        self,
        number: int,
        state: TrialState,
        *,
        values: list[float] | None = None,
        reason: str | None = None,
    ) -> None:
        """End a trial."""
        if reason is not None:
            self._live(self.all()[number]).set_user_attr(REASON, reason)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what Optuna calls experimental
            # a grid that is done wants to stop an optimisation that this is not
            is_grid = isinstance(self._study.sampler, GridSampler)
            with contextlib.suppress(RuntimeError) if is_grid else contextlib.nullcontext():
                self._study.tell(number, values, state)

    def constrain(self, number: int, constraints: Mapping[str, float]) -> None:
        """Tell constraints, but for those that a start that was killed told already."""
        trial = self.all()[number]
        for name, excess in constraints.items():
            if f"constraints:{name}" not in trial.system_attrs:
                self._live(trial).set_constraint(name, excess)

    def queue(self, trial: FrozenTrial) -> None:
        """Let a trial wait to be asked for again."""
        self._study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)

    def _live(self, trial: FrozenTrial) -> Trial:
        return Trial(self._study, trial._trial_id)


def _is_own_run(trial: FrozenTrial) -> bool:
    """Whether it is for being trained itself: neither infeasible nor known from another one."""
    return all(trial.user_attrs.get(name) is None for name in (VIOLATIONS, REPEATS))
