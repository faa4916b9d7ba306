"""Sweeps whose jobs train on two ranks: each job's ranks join that job, and no other."""

import json
import subprocess
import sys

import optuna
import pytest
from optuna.trial import TrialState

from tests.sweep.test_launchers import comparable

RUN = [
    "hardware=raspberry_pi_4",
    "model=resnet8",
    "model.width=4",
    "trainer=quick",
    "trainer.accelerator=cpu",
    "trainer.devices=2",
    "trainer.strategy=ddp",
    "compress=none",
    "compress.schedule.warmup_epochs=2",
    "budget=none",
    "budget.macs=3e6",
]
RATES = ("0.02", "0.07")
LAUNCHERS = [
    pytest.param("basic", marks=pytest.mark.slow),
    pytest.param("joblib", marks=pytest.mark.launchers),
]


def carried_out(folder, *words):
    done = subprocess.run(
        [sys.executable, "-m", "lightning_cost.cli", "fit", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=1800,  # on a machine with other work a start takes minutes
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def report_of(run_dir):
    return comparable(json.loads((run_dir / "report.json").read_text()))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What each of the jobs comes to where it is no job of a sweep."""
    folder = tmp_path_factory.mktemp("alone")
    for rate in RATES:
        carried_out(folder, *RUN, f"trainer.learning_rate={rate}", f"run_dir={rate}")
    return [report_of(folder / rate) for rate in RATES]


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_jobs_of_two_ranks(alone, tmp_path, launcher):
    rates = f"trainer.learning_rate={','.join(RATES)}"
    where = [f"hydra/launcher={launcher}", "hydra.sweep.dir=sweep"]
    said = carried_out(tmp_path, "-m", *RUN, rates, *where)
    runs = sorted(path.parent for path in (tmp_path / "sweep").glob("*/report.json"))
    assert [run.name for run in runs] == ["0", "1"]
    # a rank of another job, or one that trained alone, would have come to other weights
    assert [report_of(run) for run in runs] == alone
    assert {path.name for path in tmp_path.iterdir()} == {"sweep"}
    assert all(len(list(run.glob("logs*"))) == 1 for run in runs)
    if launcher == "basic":  # the others keep what their jobs say
        assert said.count("MEMBER: 2/2") == 2


@pytest.mark.slow
def test_two_trials_of_two_ranks(tmp_path):
    study = ["hydra/sweeper=cost_optuna", "hydra.sweeper.num_trials=2", "hydra.sweep.dir=sweep"]
    carried_out(tmp_path, "-m", *RUN, "trainer.learning_rate=interval(0.02,0.07)", *study)
    found = optuna.load_study(study_name="sweep", storage=f"sqlite:///{tmp_path}/sweep/study.db")
    assert [trial.state for trial in found.trials] == [TrialState.COMPLETE] * 2
    for trial in found.trials:
        report = report_of(tmp_path / "sweep" / str(trial.number))
        assert report["final"]["val/accuracy"] == trial.value
        assert report["config"]["trainer"]["learning_rate"] == trial.params["trainer.learning_rate"]
        assert report["config"]["trainer"]["devices"] == 2
        (spent,) = [each for name, each in trial.user_attrs.items() if name.startswith("spent:")]
        assert spent["flops"] >= report["train_flops"]
