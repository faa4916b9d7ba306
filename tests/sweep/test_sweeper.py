"""Sweeps by the command line, with real fits of tiny networks on digits."""

import contextlib
import errno
import importlib.util
import json
import os
import random
import signal
import sqlite3
import time

import optuna
import pytest
import torch
from optuna.trial import TrialState

from lightning_cost import cli
from tests.processes import start

QUICK = [
    "hydra/sweeper=cost_optuna",
    "hardware=raspberry_pi_4",
    "budget=none",
    "budget.latency_ms=0.05",
    "model=resnet8",
    "compress=none",
    "compress.schedule.warmup_epochs=1",
    "data.search_ratio=0.3",
    "data.val_ratio=0.3",
    "trainer=quick",
]
SPACE = ["model.width=choice(4,8,64)", "trainer.learning_rate=tag(log, interval(0.01,0.1))"]


@pytest.fixture(autouse=True)
def _as_it_was():
    threads, handler = torch.get_num_threads(), signal.getsignal(signal.SIGINT)
    with torch.random.fork_rng(devices=[]):
        yield
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, handler)


def words_of(folder, *words, space=SPACE):
    return ["fit", "-m", *QUICK, *space, f"hydra.sweep.dir={folder}", *words]


def sweep(folder, *words, space=SPACE):
    return cli.main(words_of(folder, *words, space=space))


def trials_of(folder):
    study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{folder}/study.db")
    return study.trials


def test_a_sweep_and_its_continuation(tmp_path, capsys):
    assert sweep(tmp_path, "hydra.sweeper.num_trials=2") == cli.KEPT
    assert sweep(tmp_path, "hydra.sweeper.num_trials=3") == cli.KEPT
    trials = trials_of(tmp_path)
    finished = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    assert len(finished) == 3
    assert all(trial.params["model.width"] < 64 for trial in finished)
    for trial in trials:
        assert (tmp_path / str(trial.number) / "report.json").exists() == (trial in finished)
    for trial in finished:
        report = json.loads((tmp_path / str(trial.number) / "report.json").read_text())
        assert report["final"]["metrics"]["val/accuracy"] == trial.value
        assert report["config"]["model"]["width"] == trial.params["model.width"]
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path)
    found = json.loads((tmp_path / "sweep.json").read_text())
    assert [trial["number"] for trial in found["study"]["trials"]] == list(range(len(trials)))
    assert {run["run"] for run in found["runs"]} == {str(trial.number) for trial in finished}
    assert found["best"][0]["value"] == max(trial.value for trial in finished)
    assert found["study"]["limits"] == {"latency_ms": 0.05}


def test_an_epoch_that_is_hopeless_ends_its_run(tmp_path, monkeypatch):
    from optuna.pruners import ThresholdPruner

    from lightning_cost.sweep import strategies

    pruners = {**strategies.PRUNERS, "median": lambda: ThresholdPruner(lower=2.0)}
    monkeypatch.setattr(strategies, "PRUNERS", pruners)
    words = ["hydra.sweeper.num_trials=1", "hydra.sweeper.pruner=median"]
    sweep(tmp_path, *words)
    (trial,) = [trial for trial in trials_of(tmp_path) if not trial.user_attrs.get("violations")]
    assert trial.state is TrialState.PRUNED
    assert trial.user_attrs["reason"].startswith("val/accuracy 0.")
    assert not (tmp_path / str(trial.number) / "report.json").exists()
    found = json.loads((tmp_path / "sweep.json").read_text())
    assert found["runs"] == []
    assert found["left_out"]["trials"] == {"pruned": 1}
    assert found["study"]["trials"][trial.number]["reached"] < 1


def test_a_run_that_fails_is_recorded(tmp_path, capsys):
    space = ["data.batch_size=choice(32,-1)"]
    words = ["hydra.sweeper.sampler=grid", "model.width=4"]
    assert sweep(tmp_path, *words, space=space) == cli.KEPT
    found = {trial.params["data.batch_size"]: trial for trial in trials_of(tmp_path)}
    assert found[32].state is TrialState.COMPLETE
    assert found[-1].state is TrialState.FAIL
    assert "batch_size must be >= 1, got -1" in found[-1].user_attrs["reason"]


@pytest.mark.slow
def test_a_sweep_ends_within_its_budget_and_goes_on_with_more(tmp_path, capsys):
    words = ["model.width=4", "hydra.sweeper.num_trials=9", "compress.schedule.warmup_epochs=2"]
    space = ["trainer.learning_rate=interval(0.01,0.1)"]
    limit = "hydra.sweeper.training.flops"
    assert sweep(tmp_path, *words, f"{limit}=1e3", space=space) == cli.BAD_INPUT
    assert "hydra.sweeper.training must have room for one run" in capsys.readouterr().err
    (waiting,) = trials_of(tmp_path)
    assert waiting.state is TrialState.WAITING
    expected = waiting.user_attrs["expected_flops"]["least"]
    # room for two runs and most of a third
    assert sweep(tmp_path, *words, f"{limit}={2.9 * expected}", space=space) == cli.KEPT
    assert "the sweep ends with 2 of 9 trials: training budget" in capsys.readouterr().out
    found = json.loads((tmp_path / "sweep.json").read_text())
    used = found["study"]["used"]["flops"]
    spent = found["spend"]
    assert used == spent["train_flops"]["value"] + spent["eval_flops"]["value"]
    assert used < 2.9 * expected
    assert found["study"]["used"]["wall_clock_s"] == spent["wall_clock_s"]["value"]
    assert found["study"]["stop_reason"].startswith("training budget of the sweep spent: flops")
    assert sweep(tmp_path, *words, f"{limit}={3.1 * expected}", space=space) == cli.KEPT
    states = [trial.state for trial in trials_of(tmp_path)]
    assert states == [TrialState.COMPLETE] * 3 + [TrialState.WAITING]


@pytest.mark.slow
def test_a_run_is_stopped_between_two_epochs_and_goes_on(tmp_path, capsys, monkeypatch):
    words = ["model.width=4", "hydra.sweeper.num_trials=1", "compress.schedule.warmup_epochs=4"]
    space = ["trainer.learning_rate=interval(0.01,0.1)"]
    limit = "hydra.sweeper.training.flops"
    assert sweep(tmp_path, *words, f"{limit}=1", space=space) == cli.BAD_INPUT
    (waiting,) = trials_of(tmp_path)
    expected = waiting.user_attrs["expected_flops"]["least"]
    # what it is expected to compute is not known, so it starts without a forecast
    monkeypatch.setattr("lightning_cost.sweep.sweeper.Expectation", lambda *_: lambda _: None)
    study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{tmp_path}/study.db")
    study._storage.set_trial_user_attr(waiting._trial_id, "expected_flops", None)
    assert sweep(tmp_path, *words, f"{limit}={0.6 * expected}", space=space) == cli.BAD_INPUT
    assert "which another epoch would exceed" in capsys.readouterr().err
    (stopped,) = trials_of(tmp_path)
    assert stopped.state is TrialState.WAITING
    (used,) = (v["flops"] for k, v in stopped.user_attrs.items() if k.startswith("spent:"))
    assert 0.4 * expected < used <= 0.6 * expected
    assert sweep(tmp_path, *words, f"{limit}={2 * expected}", space=space) == cli.KEPT
    (trial,) = trials_of(tmp_path)
    assert trial.state is TrialState.COMPLETE
    report = json.loads((tmp_path / "0" / "report.json").read_text())
    assert [entry["epoch"] for entry in report["history"]] == [0, 1, 2, 3]


def _without_launchers(name, package=None, find=importlib.util.find_spec):
    return None if name.startswith("hydra_plugins.hydra_") else find(name, package)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["hydra.sweeper.training.usd=1"], "price_usd_per_hour of the training machine must be kn"),
        (["hydra.sweeper.training.usd=50%"], "usd must be absolute in a training budget"),
        (["model.widht=1,2"], "Key 'widht' is not in struct"),
        (["hydra.sweeper.sampler=foo"], "sampler must be one of tpe"),
        (["hydra.sweeper.objectives=[accuracy]"], "objectives must be in the runs' reports"),
        (["budget.latency_ms=1e-5", "hydra.sweeper.max_infeasible=5"], "the space must hold"),
        (["hydra.sweeper.storage=nothing://here"], "storage must be a database"),
        (["hydra.sweeper.training.usd=1", "hydra/launcher=ray"], "hydra/launcher=ray needs"),
    ],
)
def test_bad_input(tmp_path, capsys, monkeypatch, words, message):
    monkeypatch.setattr("importlib.util.find_spec", _without_launchers)
    assert sweep(tmp_path, *words) == cli.BAD_INPUT
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert not list(tmp_path.glob("*/config.yaml"))
    # of a study in which nothing was feasible there is a report all the same
    assert (tmp_path / "report.html").exists() == ("must hold" in message)


def test_a_study_of_another_space_or_direction(tmp_path, capsys):
    study = optuna.create_study(storage=f"sqlite:///{tmp_path}/study.db", study_name="sweep")
    study.add_trial(optuna.create_trial(value=1.0))
    before = trials_of(tmp_path)
    assert sweep(tmp_path) == cli.BAD_INPUT
    said = capsys.readouterr().err
    assert "study must be of this sweep, got 'sweep' in" in said
    assert "choose another hydra.sweep.dir, or hydra.sweeper.study=" in said
    assert "Traceback" not in said
    assert trials_of(tmp_path) == before


@pytest.mark.parametrize("damage", ["corrupt", "locked"])
def test_a_database_that_cannot_be_used(tmp_path, capsys, monkeypatch, damage):
    monkeypatch.setattr("lightning_cost.sweep.storage._TIMEOUT_S", 0.05)
    path = tmp_path / "study.db"
    optuna.create_study(storage=f"sqlite:///{path}", study_name="another")
    with contextlib.ExitStack() as stack:
        if damage == "corrupt":
            path.write_bytes(path.read_bytes()[:3000] + b"?" * 3000)
        else:
            other = stack.enter_context(contextlib.closing(sqlite3.connect(path)))
            other.execute("BEGIN EXCLUSIVE")
        assert sweep(tmp_path) == cli.BAD_INPUT
    said = capsys.readouterr().err
    assert "storage must be a database that can be read and written, got" in said
    assert "malformed" in said if damage == "corrupt" else "database is locked" in said
    assert "Traceback" not in said


def test_a_journal_on_a_full_disk(tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("optuna.storages.journal.JournalFileBackend.append_logs", full)
    code = sweep(tmp_path, f"hydra.sweeper.storage=journal:{tmp_path / 'log'}")
    assert code == cli.BAD_INPUT
    said = capsys.readouterr().err
    assert "No space left on device" in said
    assert "Traceback" not in said


def started(folder, *words):
    log = folder / "said.log"
    log.unlink(missing_ok=True)
    return start(cli.main, words_of(folder, *words), folder=folder, log=log)


def a_moment(folder, chance):
    """Something that a running sweep does, drawn at random, and then a little more time."""

    def written(name):
        with contextlib.suppress(FileNotFoundError):  # a run that is begun anew
            return {path: path.stat().st_mtime_ns for path in folder.glob(f"*/{name}")}
        return {}

    def new(name):
        known = written(name)
        return lambda: bool(written(name).items() - known.items())

    is_begun = (folder / "study.db").exists
    happened = chance.choice([is_begun, new("config.yaml"), new("last.ckpt"), new("report.json")])
    return happened, chance.uniform(0, 0.3)


def kill(process, happened, delay):
    until(lambda: happened() or not process.is_running(), seconds=600)
    time.sleep(delay)
    process.signal(signal.SIGKILL)
    code, said = process.end(seconds=60)
    assert code == -signal.SIGKILL, said


@pytest.mark.slow
def test_killed_ten_times_at_random_moments(tmp_path):
    num_trials, chance = 16, random.Random(0)
    words = ["compress.schedule.warmup_epochs=2", f"hydra.sweeper.num_trials={num_trials}"]
    done = {}
    for _ in range(10):
        happened, delay = a_moment(tmp_path, chance)
        process = started(tmp_path, *words)
        kill(process, happened, delay)
        trials = trials_of(tmp_path) if (tmp_path / "study.db").exists() else []
        finished = {t.number: t for t in trials if t.state is TrialState.COMPLETE}
        for number, report in done.items():  # what had finished stays as it was
            assert number in finished
            assert (tmp_path / str(number) / "report.json").read_bytes() == report
        done = {n: (tmp_path / str(n) / "report.json").read_bytes() for n in finished}
    code, said = started(tmp_path, *words).end(seconds=1800)
    assert code == cli.KEPT, said
    finished = [trial for trial in trials_of(tmp_path) if trial.state is TrialState.COMPLETE]
    assert len(finished) == num_trials
    assert {t.state for t in trials_of(tmp_path)} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert len({tuple(sorted(trial.params.items())) for trial in finished}) == num_trials
    for trial in finished:
        report = json.loads((tmp_path / str(trial.number) / "report.json").read_text())
        assert [entry["epoch"] for entry in report["history"]] == [0, 1]
        if trial.number in done:
            kept = (tmp_path / str(trial.number) / "report.json").read_bytes()
            assert kept == done[trial.number]


def until(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert condition()


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-C", "killed"])
def test_a_trial_that_was_stopped_goes_on_from_its_checkpoint(tmp_path, stop):
    words = ["compress.schedule.warmup_epochs=15", "hydra.sweeper.num_trials=1"]
    process = started(tmp_path, *words)
    until(lambda: list(tmp_path.glob("*/last.ckpt")) or not process.is_running())
    process.signal(stop)
    code, said = process.end(seconds=120)
    assert code == (cli.INTERRUPTED if stop == signal.SIGINT else -stop), said
    (run_dir,) = [path.parent for path in tmp_path.glob("*/last.ckpt")]
    if stop == signal.SIGINT:
        states = [trial.state for trial in trials_of(tmp_path)]
        assert TrialState.RUNNING not in states
        found = json.loads((tmp_path / "sweep.json").read_text())
        assert found["left_out"]["trials"] == {"waiting": 1}
    code, said = started(tmp_path, *words).end(seconds=300)
    assert code == cli.KEPT, said
    (finished,) = [t for t in trials_of(tmp_path) if t.state is TrialState.COMPLETE]
    assert str(finished.number) == run_dir.name
    report = json.loads((run_dir / "report.json").read_text())
    assert len(list(run_dir.glob("logs*"))) == 2
    epochs = [entry["epoch"] for entry in report["history"]]
    assert len(epochs) == len(set(epochs))
