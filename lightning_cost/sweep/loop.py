"""Ask, price, train, tell: a study that is carried out, until enough feasible trials have run."""

import contextlib
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from lightning_cost.sweep.feasibility import Verdict
from lightning_cost.sweep.outcome import OUTCOME, outcome_of
from lightning_cost.sweep.ownership import OWNER, Ownership, is_held, job_lock, study_lock
from lightning_cost.sweep.settings import SweepSettings
from lightning_cost.sweep.space import Space
from lightning_cost.sweep.spending import (
    EXPECTED,
    ExpectedFlops,
    first_exceeded,
    first_without_room,
    used_by_all,
)
from lightning_cost.sweep.strategies import NEEDS_VALUES, neutral_values, sampler_of
from lightning_cost.sweep.trials import REASON, REPEATS, VERDICT, VIOLATIONS, Trials

STOP_REASON = "stop_reason"
"""Of a study: why the last start of the sweep ended, once it did."""
STARTS = "starts"
"""Of a study: how often its sweep was started."""
_SUCCESSES = (TrialState.COMPLETE, TrialState.RUNNING, TrialState.WAITING)


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A feasible trial that is to be trained.

    Args:
        number: Of the trial.
        settings: What was sampled, by key.
    """

    number: int
    settings: Mapping[str, Any]


Judge: TypeAlias = Callable[[Mapping[str, Any]], Verdict]
"""What a configuration will cost, from what was sampled."""
Launch: TypeAlias = Callable[[Sequence[Job]], Sequence[BaseException | None]]
"""Train, and say of each job with what error it ended; each has written its outcome by then."""


Expect: TypeAlias = Callable[[Mapping[str, Any]], ExpectedFlops | None]
"""What a run will compute, from what was sampled; ``None`` where that is not known."""


@dataclass(kw_only=True)
class StudyLoop:
    """Carries out a study, in one of possibly several processes.

    Args:
        study: Opened, without a sampler.
        space: Of the sweep.
        settings: How the sweep is carried out.
        sweep_dir: Of this process.
        judge: Tells feasible configurations from others.
        launch: Trains the feasible ones.
        expect: Tells what a run will compute, where the sweep has a training budget.
    """

    study: optuna.Study
    space: Space
    settings: SweepSettings
    sweep_dir: Path
    judge: Judge
    launch: Launch
    expect: Expect | None = None
    _nearest: tuple[Mapping[str, Any], Verdict] | None = field(default=None, init=False)
    _num_idle: int = field(default=0, init=False)
    _spent: str | None = field(default=None, init=False)
    _stopped: str | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._trials = Trials(self.study)

    def run(self) -> None:
        """Run trials until there are enough, those of other processes and starts included.

        A configuration that was trained, or is now, is not trained again: with its seed it would
        come to the same. So a sweep also ends when its space is used up, or when too many
        configurations in a row were infeasible or known.

        Raises:
            ValueError: If too many configurations in a row were infeasible; names the nearest. Or
                if all trials failed, or the sweep's training budget has no room for a single one.
        """
        self._ownership = Ownership(self.sweep_dir, self.study)
        with self._ownership.held():
            with study_lock(self.sweep_dir):
                self._seed()
                self.study.set_user_attr(STOP_REASON, None)
            try:
                while jobs := self._next_jobs():
                    errors = self.launch(jobs)
                    for job, error in zip(jobs, errors, strict=True):
                        self._end(job.number, error)
            except BaseException:
                # what is left is found by the next start, where the storage itself is in trouble
                with contextlib.suppress(Exception):
                    self._give_back()
                raise
        num_run, num_trials = self._trials.num_run, self.settings.num_trials
        reason = f"{num_trials} trials were run" if num_run >= num_trials else self._end_reason()
        self.study.set_user_attr(STOP_REASON, reason)
        self._require_success()
        if num_run < num_trials:
            print(f"the sweep ends with {num_run} of {num_trials} trials: {reason}")

    def _end_reason(self) -> str:
        if self._spent is not None:
            return self._spent
        if self._num_idle < self.settings.max_infeasible:
            return "its space holds no others"
        return (
            f"{self._num_idle} configurations in a row were infeasible or known; widen the space, "
            "raise the limit, or raise hydra.sweeper.max_infeasible"
        )

    def _require_success(self) -> None:
        failed = self._trials.failed()
        if failed and not self._trials.all(*_SUCCESSES):
            raise ValueError(
                f"some run must come to an end, got {len(failed)} that failed; the last: "
                f"{failed[-1].user_attrs.get(REASON)}"
            )
        if self._spent is not None and not self._trials.num_run:
            raise ValueError(
                f"hydra.sweeper.training must have room for one run, got {self._spent}; raise it"
            )

    def _seed(self) -> None:
        """A sampler that draws anew in each process and at each start."""
        starts = self.study.user_attrs.get(STARTS, 0)
        self.study.set_user_attr(STARTS, starts + 1)
        distributions = self.space.distributions
        # a grid's order is to be the same for all, so that they go through it together
        seed = self.settings.seed + (0 if self.settings.sampler == "grid" else 10_007 * starts)
        self._sampler = sampler_of(self.settings.sampler, seed, distributions)
        # a sampler that is sure of the best would ask for it again and again
        self._chance = sampler_of("random", seed, distributions)
        self.study.sampler = self._sampler

    def _next_jobs(self) -> list[Job]:
        """Feasible trials, as many as are launched at once and are still wanted."""
        jobs: list[Job] = []
        with study_lock(self.sweep_dir):
            self._take_over()
            num_wanted = self.settings.num_trials - self._trials.num_run
            limits = self.settings.training.limits()
            used = used_by_all(self._trials.all()) if limits else {}
            self._spent = self._stopped or first_exceeded(limits, used, {})
            while (
                self._spent is None
                and len(jobs) < min(self.settings.num_jobs, num_wanted)
                and self._num_idle < self.settings.max_infeasible
            ):
                trial = self._ask()
                if trial is None:
                    break
                if self._is_known(trial):
                    self._num_idle += 1
                    self.study.sampler = self._chance
                elif self._is_feasible(trial):
                    self._num_idle = 0
                    self.study.sampler = self._sampler
                    if not self._has_room(trial):
                        break
                    jobs.append(Job(number=trial.number, settings=trial.params))
                elif self._trials.all()[trial.number].state is TrialState.FAIL:
                    num_wanted -= 1
        return jobs

    def _ask(self) -> Trial | None:
        """The next trial, one that is queued first; ``None`` when the space has no more."""
        trials = self._trials.all()
        is_queued = any(trial.state is TrialState.WAITING for trial in trials)
        if not is_queued and len({_point(trial) for trial in trials}) == self.space.size:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what Optuna calls experimental
            trial = self.study.ask(self.space.distributions)
        trial.set_user_attr(OWNER, self._ownership.token)
        for name in (OUTCOME, REPEATS):
            if name in trial.user_attrs:  # from before it was queued, and no longer true
                trial.set_user_attr(name, None)
        return trial

    def _is_known(self, trial: Trial) -> bool:
        """Tell a trial what came of the same settings, where they were trained already.

        What comes of those that are being trained now is not known yet, and a trial that failed
        tells a sampler nothing. Those of dead processes are not among them: they were taken over.
        """
        known = self._trials.like(trial)
        if known is None:
            return False
        trial.set_user_attr(REPEATS, known.number)
        if known.state is TrialState.RUNNING:
            self._trials.tell(trial.number, TrialState.FAIL)
            return True
        self._trials.constrain(trial.number, known.constraints)
        for step, value in known.intermediate_values.items():
            trial.report(value, step)
        # of one that was pruned, the last value that was reported stands in for its values
        values = known.values if known.state is TrialState.COMPLETE else None
        self._trials.tell(trial.number, known.state, values=values)
        return True

    def _is_feasible(self, trial: Trial) -> bool:
        """Price a trial; one that cannot fit, or cannot be built, is told and done with."""
        try:
            verdict = self.judge(trial.params)
            is_asked = verdict.is_feasible and self.expect is not None
            expected = self.expect(trial.params) if is_asked and self.expect else None
        except Exception as error:  # a configuration that is refused is a trial that failed
            reason = f"{type(error).__name__}: {error}"
            self._trials.tell(trial.number, TrialState.FAIL, reason=reason)
            return False
        known = {"predicted": dict(verdict.predicted), "limits": dict(verdict.limits)}
        trial.set_user_attr(VERDICT, known)
        if verdict.is_feasible:
            if expected is not None:
                trial.set_user_attr(EXPECTED, expected.to_dict())
            return True
        self._trials.constrain(trial.number, verdict.constraints)
        trial.set_user_attr(VIOLATIONS, verdict.violations)
        neutral = None
        if self.settings.sampler in NEEDS_VALUES:
            neutral = neutral_values(self._trials.finished(), len(self.settings.found))
        state = TrialState.PRUNED if neutral is None else TrialState.COMPLETE
        self._trials.tell(trial.number, state, values=neutral)
        if self._nearest is None or verdict.excess < self._nearest[1].excess:
            self._nearest = trial.params, verdict
        self._num_idle += 1
        if self._num_idle >= self.settings.max_infeasible and not self._trials.num_run:
            settings, nearest = self._nearest
            raise ValueError(
                f"the space must hold configurations within the budget, got {self._num_idle} in "
                f"a row that are not; the nearest, {_shown(settings)}, has {nearest}; raise the "
                "limit, widen the space, or raise hydra.sweeper.max_infeasible"
            )
        return False

    def _has_room(self, trial: Trial) -> bool:
        """Whether the sweep's budget has room for a trial; it waits for more where it has none."""
        limits = self.settings.training.limits()
        if limits:
            trials = self._trials.all()
            self._spent = first_without_room(limits, trials, trial.number)
            if self._spent is not None:
                self._trials.queue(trials[trial.number])
        return self._spent is None

    def _end(self, number: int, error: BaseException | None) -> None:
        """Tell what became of a trial that was launched."""
        trial = self._trials.all()[number]
        outcome = outcome_of(trial)
        if outcome is None:
            reason = "its job ended without a word" if error is None else repr(error)
            self._trials.tell(number, TrialState.FAIL, reason=reason)
            return
        verdict = trial.user_attrs.get(VERDICT)
        predicted = {} if verdict is None else Verdict.from_dict(verdict).constraints
        is_finite = all(map(math.isfinite, outcome.values))
        if outcome.state == "finished" and is_finite:
            self._trials.constrain(number, predicted | dict(outcome.constraints))
            self._trials.tell(number, TrialState.COMPLETE, values=list(outcome.values))
        elif outcome.state == "stopped":
            self._stopped = outcome.reason
            self._trials.queue(trial)
        elif outcome.state == "pruned" and trial.intermediate_values:
            self._trials.tell(number, TrialState.PRUNED, reason=outcome.reason)
        else:
            self._trials.tell(number, TrialState.FAIL, reason=outcome.reason)

    def _take_over(self) -> None:
        """Queue the trials of processes that are no more; those that finished are told."""
        for trial in self._trials.all(TrialState.RUNNING):
            if not self._ownership.is_alive(trial.user_attrs.get(OWNER)):
                self._close(trial)

    def _give_back(self) -> None:
        """Queue what was interrupted here, and tell what was not."""
        for trial in self._trials.all(TrialState.RUNNING):
            if trial.user_attrs.get(OWNER) == self._ownership.token:
                self._close(trial)

    def _close(self, trial: FrozenTrial) -> None:
        """End a trial that nobody runs any more; one whose job goes on is left to a later start."""
        if is_held(job_lock(self.sweep_dir, trial.number)):
            return  # its job outlives the process that launched it
        outcome = outcome_of(self._trials.all()[trial.number])
        # what stopped for want of room is asked for again, as there may be more by now
        if outcome is None or outcome.state == "stopped":
            self._trials.queue(trial)
        else:
            self._end(trial.number, None)


def _point(trial: FrozenTrial) -> frozenset[tuple[str, str]]:
    """Where in the space a trial is."""
    return frozenset((key, repr(value)) for key, value in trial.params.items())


def _shown(settings: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in settings.items())
