"""An Optuna study as the plain record that a sweep's report is made of."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import optuna
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from lightning_cost.cost.plain_data import amount, count, number, text
from lightning_cost.report.study.record import Importance, State, Study, TrialRecord
from lightning_cost.sweep.feasibility import Verdict
from lightning_cost.sweep.loop import STARTS, STOP_REASON
from lightning_cost.sweep.objectives import Direction
from lightning_cost.sweep.outcome import outcome_of
from lightning_cost.sweep.ownership import ALIVE, OWNER
from lightning_cost.sweep.settings import SweepSettings
from lightning_cost.sweep.space import Space
from lightning_cost.sweep.spending import expected_of, used_by_all
from lightning_cost.sweep.storage import SIGNATURE, study_errors
from lightning_cost.sweep.trials import REASON, REPEATS, VERDICT, VIOLATIONS

MIN_TRIALS = 10
"""Finished trials without which the importance of a parameter is left open."""
_TOP_RATIO = 0.25
_DESCRIPTION = "description"
_STATES: Mapping[TrialState, State] = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


def describe(study: optuna.Study, space: Space, settings: SweepSettings) -> None:
    """Keep with a study how this start of the sweep carries it out, for its report."""
    description = {
        "sampler": settings.sampler,
        "pruner": settings.pruner,
        "seed": settings.seed,
        "space": {key: entry.written for key, entry in space.parameters.items()},
        "training": settings.training.limits(),
    }
    study.set_user_attr(_DESCRIPTION, description)


def require_sound(study: optuna.Study, url: str, sweep_dir: Path) -> None:
    """Refuse a study that a sweep cannot go on with.

    Raises:
        ValueError: If a record of it is missing or of another form than was written.
    """
    with study_errors(url, study.study_name):
        study_record(study, sweep_dir)
        for name, told in study.user_attrs.items():
            if name == STARTS:
                count(told, name)
            elif name.startswith(ALIVE):
                amount(told, name)
        for trial in study.get_trials(deepcopy=False):
            expected_of(trial)
            if OWNER in trial.user_attrs:
                text(trial.user_attrs[OWNER], OWNER)


def study_record(study: optuna.Study, sweep_dir: Path) -> Study:
    """The record of a study whose runs are in ``sweep_dir``."""
    description = study.user_attrs.get(_DESCRIPTION, {})
    stop_reason = study.user_attrs.get(STOP_REASON)
    signature = study.user_attrs.get(SIGNATURE, {})
    names = list(signature.get("objectives") or study.metric_names or ())
    directions: list[Direction] = [
        "maximize" if direction is StudyDirection.MAXIMIZE else "minimize"
        for direction in study.directions
    ]
    names = names or [f"objective {place}" for place in range(len(directions))]
    frozen = study.get_trials(deepcopy=False)
    numbers = [trial.number for trial in frozen]
    if numbers != list(range(len(frozen))):
        raise ValueError(f"trials must be numbered from 0 without a gap, got {numbers!r:.60}")
    trials = tuple(_trial(trial, names, sweep_dir) for trial in frozen)
    finished = [
        trial for trial, record in zip(frozen, trials, strict=True) if record.state == "finished"
    ]
    return Study(
        name=study.study_name,
        objectives={
            name: "min" if direction == "minimize" else "max"
            for name, direction in zip(names, directions, strict=True)
        },
        sampler=description.get("sampler"),
        pruner=description.get("pruner"),
        seed=description.get("seed"),
        limits=_shared_limits(frozen),
        space=description.get("space") or dict(signature.get("space", {})),
        trials=trials,
        importances={
            name: importance(finished, place, direction)
            for place, (name, direction) in enumerate(zip(names, directions, strict=True))
        },
        training=description.get("training", {}),
        used=used_by_all(frozen),
        stop_reason=None if stop_reason is None else text(stop_reason, STOP_REASON),
    )


def importance(finished: Sequence[FrozenTrial], place: int, direction: Direction) -> Importance:
    """How much each parameter matters for one objective to be among the best quarter.

    Judged by PED-ANOVA (Watanabe et al., 2023), over trials that were trained to their end.

    Args:
        finished: Each with finite values.
        place: Of the objective.
        direction: ``"minimize"`` or ``"maximize"``.
    """
    if len(finished) < MIN_TRIALS:
        reason = f"it takes {MIN_TRIALS} finished trials, and there are {len(finished)}"
        return Importance(reason=reason)
    if len({trial.values[place] for trial in finished}) == 1:
        return Importance(reason="all finished trials have the same value")
    alone = optuna.create_study(direction=direction)
    alone.add_trials(
        [
            optuna.trial.create_trial(
                params=trial.params, distributions=trial.distributions, value=trial.values[place]
            )
            for trial in finished
        ]
    )
    shares = optuna.importance.get_param_importances(
        alone, evaluator=PedAnovaImportanceEvaluator(target_quantile=_TOP_RATIO)
    )
    return Importance(shares=shares)


def _trial(trial: FrozenTrial, names: Sequence[str], sweep_dir: Path) -> TrialRecord:
    told = trial.user_attrs
    state: State = "infeasible" if told.get(VIOLATIONS) else _STATES[trial.state]
    violations, reason = told.get(VIOLATIONS, {}), told.get(REASON)
    if told.get(REPEATS) is not None:
        state, reason = "repeated", f"as trial {count(told[REPEATS], REPEATS)}"
    outcome = outcome_of(trial)
    verdict = Verdict.from_dict(told[VERDICT]) if VERDICT in told else Verdict()
    if state == "finished" and outcome is not None:
        violations = {name: excess for name, excess in outcome.constraints.items() if excess > 0}
    values = {}
    if state == "finished":
        found = zip(names, trial.values or (), strict=True)
        values = {name: number(value, name) for name, value in found}
    reported = {} if state == "repeated" else trial.intermediate_values
    started, ended = trial.datetime_start, trial.datetime_complete
    run_dir = str(trial.number)
    return TrialRecord(
        number=trial.number,
        state=state,
        settings={key: _plain(value) for key, value in trial.params.items()},
        values=values,
        reached=_finite(reported[max(reported)]) if reported else None,
        predicted=_finite_ones(verdict.predicted),
        violations=_finite_ones(violations),
        started=_time(started) if started else None,
        seconds=max(0.0, (ended - started).total_seconds()) if started and ended else None,
        run_dir=run_dir if (sweep_dir / run_dir).is_dir() else None,
        reason=reason,
    )


def _shared_limits(trials: Sequence[FrozenTrial]) -> dict[str, float]:
    """The limits that are the same for all trials that were priced."""
    priced = [
        trial.user_attrs[VERDICT]["limits"] for trial in trials if VERDICT in trial.user_attrs
    ]
    first = priced[0] if priced else {}
    return {
        name: limit
        for name, limit in first.items()
        if all(limits.get(name) == limit for limits in priced)
    }


def _time(local: datetime) -> str:
    return local.astimezone(timezone.utc).isoformat(timespec="seconds")


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _finite_ones(values: Mapping[str, float]) -> dict[str, float | None]:
    """``None`` for what is not finite, which JSON has no word for."""
    return {name: _finite(value) for name, value in values.items()}
