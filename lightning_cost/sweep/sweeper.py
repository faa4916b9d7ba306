"""A sweep as Hydra asks for it: from overrides and a launcher to a study and its summary."""

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig, OmegaConf

from lightning_cost.budget.training import TrainingBudget
from lightning_cost.monitor.spend import SpendMeter
from lightning_cost.recipe.config import RunConfig
from lightning_cost.recipe.run_dir import TRIAL_VARIABLE, checkpoint_to_resume
from lightning_cost.recipe.run_report import METRIC, TEST_METRIC
from lightning_cost.report.files import REPORT_NAME
from lightning_cost.report.sweep.page import write_sweep
from lightning_cost.report.sweep.rows import collect
from lightning_cost.sweep.composition import Composition
from lightning_cost.sweep.expectation import Expectation
from lightning_cost.sweep.feasibility import (
    STRUCTURAL,
    BuildData,
    BuildNetwork,
    Feasibility,
    Verdict,
)
from lightning_cost.sweep.link import StudyLink
from lightning_cost.sweep.loop import Job, Judge, StudyLoop
from lightning_cost.sweep.objectives import require_reported
from lightning_cost.sweep.ownership import study_lock
from lightning_cost.sweep.settings import SweepSettings
from lightning_cost.sweep.space import Space
from lightning_cost.sweep.storage import open_study, storage_errors, url_of
from lightning_cost.sweep.study_record import describe, require_sound, study_record


@dataclass(frozen=True, kw_only=True)
class HydraSide:
    """What Hydra and the command line do for a sweep.

    Args:
        compose: The configuration that overrides make.
        is_group: Whether a key is that of a configuration group.
        launch: Runs jobs, each given by its overrides; returns the error of each, or ``None``.
        build_data: Makes the data of a configuration.
        build_network: Makes its network.
    """

    compose: Callable[[Sequence[str]], DictConfig]
    is_group: Callable[[str], bool]
    launch: Callable[[Sequence[Sequence[str]]], Sequence[BaseException | None]]
    build_data: BuildData
    build_network: BuildNetwork


def sweep(
    space: Space, settings: SweepSettings, sweep_dir: Path, hydra_side: HydraSide
) -> optuna.Study:
    """Carry out a sweep, or go on with it.

    Args:
        space: What is varied.
        settings: How.
        sweep_dir: Where the runs and, by default, the study are.
        hydra_side: Composes, builds and launches.

    Raises:
        ValueError: If an objective or a key of the space is unknown, the study there is another
            one, its storage cannot be used, nothing feasible is found or no run comes to an end.
    """
    require_reported(settings.found, (METRIC, TEST_METRIC))
    composition = Composition(space, hydra_side.compose, hydra_side.is_group)
    first = composition({key: entry.example for key, entry in space.parameters.items()})
    _require_known_spend(settings.training, first)
    sweep_dir.mkdir(parents=True, exist_ok=True)
    url = url_of(settings.storage, sweep_dir)
    with study_lock(sweep_dir):
        study = open_study(url, space, settings)
        objectives: Mapping[str, str] = {each.name: each.direction for each in settings.found}
        link = StudyLink(
            url=url,
            study=settings.study,
            objectives=objectives,
            pruner=settings.pruner,
            training=settings.training.limits(),
        )
        link.save(sweep_dir)
        with storage_errors(url):
            require_sound(study, url, sweep_dir)
            describe(study, space, settings)
    feasibility = Feasibility(hydra_side.build_data, hydra_side.build_network, sweep_dir)

    def launch(jobs: Sequence[Job]) -> Sequence[BaseException | None]:
        return hydra_side.launch([job_overrides(space, sweep_dir, job) for job in jobs])

    loop = StudyLoop(
        study=study,
        space=space,
        settings=settings,
        sweep_dir=sweep_dir,
        judge=judge_of(composition, feasibility),
        launch=launch,
        expect=None if settings.training.is_empty else Expectation(composition, feasibility),
    )
    try:
        with storage_errors(url):
            loop.run()
    except BaseException:
        _report_so_far(study, sweep_dir)
        raise
    return study


def _report_so_far(study: optuna.Study, sweep_dir: Path) -> None:
    """Write the report of a sweep that ends early, unless nothing is there yet."""
    try:
        record = study_record(study, sweep_dir)
        if record.trials:
            print(f"report so far: {write_sweep(collect(sweep_dir), record)}", file=sys.stderr)
    except Exception as error:  # what ended the sweep is what is to be heard
        print(f"lightning-cost: no report of the sweep: {error}", file=sys.stderr)


def _require_known_spend(training: TrainingBudget, composed: DictConfig) -> None:
    """Refuse limits on what the description of the training machine does not tell."""
    config = OmegaConf.to_object(composed)
    assert isinstance(config, RunConfig)
    meter = SpendMeter()
    machine = config.train_hardware or (config.hardware if config.hardware.is_local else None)
    if machine is not None:
        meter.price_by(machine, num_devices=1, num_nodes=1)
    training.used(meter.spend)


def judge_of(composition: Composition, feasibility: Feasibility) -> Judge:
    """Tells feasible settings from others; composes only for structures that it does not know.

    Args:
        composition: Has composed one configuration at least.
        feasibility: Prices the others.
    """
    left_out = composition.without_effect_on(STRUCTURAL)
    known: dict[tuple[Any, ...], Verdict] = {}

    def judge(settings: Mapping[str, Any]) -> Verdict:
        structure = tuple((key, value) for key, value in settings.items() if key not in left_out)
        if structure not in known:
            known[structure] = feasibility(composition(settings))
        return known[structure]

    return judge


def job_overrides(space: Space, sweep_dir: Path, job: Job) -> list[str]:
    """What the launcher starts a trial with: its settings, or the checkpoint of its first start."""
    run_dir = sweep_dir / str(job.number)
    where = [
        f"hydra.sweep.subdir={job.number}",
        f"++hydra.job.env_set.{TRIAL_VARIABLE}='{job.number}'",
    ]
    if _can_go_on(run_dir):
        return [f"resume={QuotedString(str(run_dir), Quote.single).with_quotes()}", *where]
    chosen: dict[str, Any] = {key: job.settings[key] for key in space.parameters}
    return [*space.overrides(chosen), *where]


def _can_go_on(run_dir: Path) -> bool:
    """Whether an earlier start of the trial left a checkpoint; what is of no use is removed."""
    # what was reported, but not told to the study, is reported again, from where its training ended
    (run_dir / REPORT_NAME).unlink(missing_ok=True)
    try:
        checkpoint = checkpoint_to_resume(run_dir)
    except ValueError:
        checkpoint = None
    if checkpoint is None:
        shutil.rmtree(run_dir, ignore_errors=True)
    return checkpoint is not None
