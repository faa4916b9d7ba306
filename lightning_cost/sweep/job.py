"""A trial as the process that trains it sees it: where it belongs, and what became of it."""

import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.trial import Trial
from pytorch_lightning.callbacks import Callback

from lightning_cost.budget.training import TrainingBudget
from lightning_cost.recipe.run_dir import is_first_rank
from lightning_cost.report.files import read_report
from lightning_cost.sweep.callback import SweepBudgetSpentError, TrialReporting, TrialSpending
from lightning_cost.sweep.link import StudyLink
from lightning_cost.sweep.objectives import Objective, objectives_of
from lightning_cost.sweep.outcome import OUTCOME, Outcome
from lightning_cost.sweep.ownership import job_lock
from lightning_cost.sweep.storage import open_storage
from lightning_cost.sweep.strategies import pruner_of


def run_trial(
    sweep_dir: Path, number: int, run_dir: Path, work: Callable[[Sequence[Callback]], Any]
) -> None:
    """Carry out a trial, and write into the study what became of it; errors are written too.

    Args:
        sweep_dir: Of the sweep.
        number: Of the trial.
        run_dir: Where its report will be.
        work: Fits with further callbacks, and leaves the report.
    """
    link = StudyLink.load(sweep_dir)
    study = optuna.load_study(
        study_name=link.study, storage=open_storage(link.url), pruner=pruner_of(link.pruner)
    )
    trial = Trial(study, study.get_trials(deepcopy=False)[number]._trial_id)
    objectives = objectives_of(link.objectives)
    spending = TrialSpending(trial, TrainingBudget(**link.training))
    callbacks: list[Callback] = [spending]
    if len(objectives) == 1 and not objectives[0].is_resource:
        callbacks.append(TrialReporting(trial, objectives[0].name))
    if not is_first_rank():
        with contextlib.suppress(optuna.TrialPruned, SweepBudgetSpentError):
            work(callbacks)
        return
    with FileLock(job_lock(sweep_dir, number)):
        try:
            outcome = _outcome(run_dir, objectives, lambda: work(callbacks))
        finally:
            spending.record()
        trial.set_user_attr(OUTCOME, outcome.to_dict())


def _outcome(run_dir: Path, objectives: Sequence[Objective], work: Callable[[], Any]) -> Outcome:
    try:
        work()
        report = read_report(run_dir)
        values = tuple(objective.of(report) for objective in objectives)
    except optuna.TrialPruned as pruned:
        return Outcome(state="pruned", reason=str(pruned))
    except SweepBudgetSpentError as stop:
        return Outcome(state="stopped", reason=str(stop))
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        print(f"lightning-cost: the trial in {run_dir} failed: {reason}", file=sys.stderr)
        return Outcome(state="failed", reason=reason)
    return Outcome(
        state="finished",
        values=values,
        constraints={
            name: entry["value"] / entry["limit"] - 1
            for name, entry in report["budget"].items()
            if entry["value"] is not None and entry["limit"]
        },
    )
