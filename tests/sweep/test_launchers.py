"""The launchers: the same sweep in other processes makes the same runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from lightning_cost.sweep.launchers import (
    chosen_launcher,
    launcher_overrides,
    num_cores,
    require_launcher,
)

SWEEP = [
    "hardware=raspberry_pi_4",
    "model=resnet8",
    "model.width=4",
    "trainer=quick",
    "compress=prune",
    "compress.channels.multiple=2",
    "compress.schedule.warmup_epochs=1",
    "compress.schedule.num_steps=1",
    "compress.schedule.recover_epochs=1",
    "compress.search.num_candidates=2",
    "compress.search.calibration_samples=64",
    "compress.search.search_samples=64",
    "budget.macs=70%,40%",
]
STUDY = [
    "hydra/sweeper=cost_optuna",
    "hydra.sweeper.num_trials=3",
    "hydra.sweeper.num_jobs=2",
    "hardware=raspberry_pi_4",
    "model=resnet8",
    "trainer=quick",
    "compress=none",
    "compress.schedule.warmup_epochs=1",
    "budget=none",
    "budget.macs=3e5",
    "model.width=range(4,17,4)",
    "trainer.learning_rate=tag(log, interval(1e-3,1e-1))",
]
LAUNCHERS = {
    "joblib": ["hydra.launcher.n_jobs=2"],
    "ray": ["+hydra.launcher.ray.init.num_cpus=2"],
    "submitit_local": [],
}


def swept(folder: Path, sweep: list[str], launcher: str) -> Path:
    """The folder of a sweep that was carried out."""
    words = [*sweep, f"hydra/launcher={launcher}", *LAUNCHERS.get(launcher, [])]
    done = subprocess.run(
        [sys.executable, "-m", "lightning_cost.cli", "fit", "-m", *words, "hydra.sweep.dir=sweep"],
        cwd=folder,
        env=os.environ | {"RAY_worker_niceness": "0"},  # 15 by default, below any other work
        capture_output=True,
        text=True,
        timeout=1800,  # on a machine with other work a start takes minutes
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "sweep"


def runs_of(sweep_dir: Path) -> dict:
    """What each run directory of a sweep reports, without what no two runs have in common."""
    reports = {path.parent.name: path for path in sweep_dir.glob("*/report.json")}
    return {name: comparable(json.loads(path.read_text())) for name, path in reports.items()}


def trials_of(sweep_dir: Path) -> list[tuple]:
    """What each trial of a study tried, and what came of it."""
    study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{sweep_dir}/study.db")
    return [(trial.number, trial.params, trial.state, trial.values) for trial in study.trials]


def comparable(report: dict) -> dict:
    """Settings, costs and metrics: all but times, and whose search found the ranking."""
    report["config"].pop("run_dir")
    report["config"].pop("shared_search")
    return {
        "config": report["config"],
        "dense": report["dense"]["metrics"],
        "final": report["final"]["metrics"],
        "cost": report["final"]["cost"],
        "widths": report["final"]["widths"],
        "budget": report["budget"],
        "train_flops": report["spend"]["train_flops"]["value"],
    }


@pytest.fixture(scope="module")
def runs_here(tmp_path_factory):
    return runs_of(swept(tmp_path_factory.mktemp("runs"), SWEEP, "basic"))


@pytest.fixture(scope="module")
def trials_here(tmp_path_factory):
    return trials_of(swept(tmp_path_factory.mktemp("trials"), STUDY, "basic"))


@pytest.mark.launchers
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_the_same_runs_as_one_after_another(runs_here, launcher, tmp_path):
    assert set(runs_here) == {"0", "1"}
    assert runs_of(swept(tmp_path, SWEEP, launcher)) == runs_here


@pytest.mark.launchers
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_the_same_trials_as_one_after_another(trials_here, launcher, tmp_path):
    states = [state for _, _, state, _ in trials_here]
    assert states.count(TrialState.COMPLETE) == 3
    assert TrialState.PRUNED in states  # what cannot fit is in no process
    assert trials_of(swept(tmp_path, STUDY, launcher)) == trials_here


@pytest.mark.launchers
def test_bad_input_in_another_process_is_said_and_counts(tmp_path):
    words = [*SWEEP[:-1], "budget.macs=-1,-2", "hydra/launcher=submitit_local"]
    done = subprocess.run(
        [sys.executable, "-m", "lightning_cost.cli", "fit", "-m", *words, "hydra.sweep.dir=sweep"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=1800,  # on a machine with other work a start takes minutes
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("macs must be > 0 and finite") == 2


def test_the_last_launcher_that_is_named_counts():
    assert chosen_launcher(["-m", "seed=1,2"]) == "basic"
    assert chosen_launcher(["hydra/launcher=ray", "hydra/launcher=joblib"]) == "joblib"


def test_a_missing_package_names_its_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    require_launcher("basic")
    with pytest.raises(ImportError, match=r"hydra-ray-launcher, .*'lightning-cost\[ray\]'"):
        require_launcher("ray")


def test_a_ray_that_cannot_be_imported(monkeypatch):
    def fails(_):
        raise KeyError("libamd_smi.so")

    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    monkeypatch.setattr("importlib.import_module", fails)
    with pytest.raises(ImportError, match=r"can be imported, got KeyError: 'libamd_smi.so'"):
        require_launcher("ray")


def test_jobs_of_submitit_on_this_machine_do_not_share_cores():
    chosen = "hydra/launcher=submitit_local"
    key = "hydra.sweeper.max_batch_size"
    assert launcher_overrides([chosen]) == [f"{key}={num_cores()}"]
    wide = [chosen, f"hydra.launcher.cpus_per_task={2 * num_cores()}"]
    assert launcher_overrides(wide) == [f"{key}=1"]
    assert launcher_overrides([chosen, f"{key}=3"]) == []
    assert launcher_overrides([chosen, "hydra/sweeper=cost_optuna"]) == []
    assert launcher_overrides(["hydra/launcher=joblib"]) == []
