"""What `lightning-cost report` finds of a study, wherever it was moved and whatever is damaged."""

import builtins
import json
import shutil
import sqlite3
import sys
from contextlib import closing

import pytest

from lightning_cost import cli
from lightning_cost.report.sweep.page import write_sweep
from lightning_cost.report.sweep.rows import collect
from lightning_cost.sweep.link import StudyLink
from lightning_cost.sweep.reported_study import reported_study
from lightning_cost.sweep.storage import url_of
from tests.sweep.test_loop import loop_of


@pytest.fixture
def sweep_dir(tmp_path):
    """A sweep whose runs are elsewhere."""
    folder = tmp_path / "sweep"
    folder.mkdir()
    loop = loop_of(folder)
    loop.run()
    StudyLink(url=url_of(None, folder), study="sweep", objectives={}, pruner="none").save(folder)
    return folder


def report(folder, capsys):
    code = cli.main(["report", str(folder)])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.err


def test_a_sweep_without_a_study(tmp_path):
    assert reported_study(tmp_path) is None


def test_report_writes_both_files(sweep_dir, capsys):
    assert report(sweep_dir, capsys) == (cli.KEPT, "")
    first = (sweep_dir / "report.html").read_bytes(), (sweep_dir / "sweep.json").read_bytes()
    (sweep_dir / "sweep.json").write_text("{")  # what is damaged is written anew
    assert report(sweep_dir, capsys) == (cli.KEPT, "")
    again = (sweep_dir / "report.html").read_bytes(), (sweep_dir / "sweep.json").read_bytes()
    assert again == first


def test_a_sweep_that_was_moved(sweep_dir, tmp_path):
    known = reported_study(sweep_dir)
    moved = shutil.move(sweep_dir, tmp_path / "moved")
    assert reported_study(moved) == known
    assert not sweep_dir.exists()


def test_without_the_storage_the_last_report_counts(sweep_dir, capsys):
    known = reported_study(sweep_dir)
    write_sweep(collect(sweep_dir), known)
    (sweep_dir / "study.db").unlink()
    assert reported_study(sweep_dir) == known
    assert report(sweep_dir, capsys) == (cli.KEPT, "")
    assert reported_study(sweep_dir) == known
    assert not (sweep_dir / "study.db").exists()
    (sweep_dir / "sweep.json").write_text('{"schema_version": 1')
    code, said = report(sweep_dir, capsys)
    assert code == cli.BAD_INPUT
    assert "study.db' is not there, and" in said
    assert "sweep.json must be a whole JSON document" in said


def test_without_optuna_the_last_report_counts(sweep_dir, monkeypatch):
    known = reported_study(sweep_dir)
    write_sweep(collect(sweep_dir), known)
    find = builtins.__import__

    def without_optuna(name, *args, **kwargs):
        if name.partition(".")[0] == "optuna":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return find(name, *args, **kwargs)

    for name in [name for name in sys.modules if name.startswith("lightning_cost.sweep.st")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without_optuna)
    assert reported_study(sweep_dir) == known
    (sweep_dir / "sweep.json").unlink()
    with pytest.raises(ValueError, match="the package optuna is not installed, and sweep_dir must"):
        reported_study(sweep_dir)


def test_a_report_without_the_study(sweep_dir):
    write_sweep(collect(sweep_dir), reported_study(sweep_dir))
    document = (sweep_dir / "sweep.json").read_text()
    start = document.index('"study": {')
    (sweep_dir / "sweep.json").write_text(document[:start] + '"study": null}')
    (sweep_dir / "study.db").unlink()
    with pytest.raises(ValueError, match=r"sweep.json holds none; bring the storage back"):
        reported_study(sweep_dir)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda whole: b"no database" * 99, "storage must be a database that can be read"),
        (lambda whole: whole[: len(whole) // 2], "storage must be a database that can be read"),
        (lambda whole: b"", "storage must hold the study 'sweep', got .* with none"),
    ],
    ids=["other", "cut off", "empty"],
)
def test_a_damaged_database(sweep_dir, capsys, damage, message):
    path = sweep_dir / "study.db"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=message):
        reported_study(sweep_dir)
    assert report(sweep_dir, capsys)[0] == cli.BAD_INPUT
    assert not (sweep_dir / "report.html").exists()


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE trials SET state = 'x' WHERE number = 0", r"LookupError: 'x' is not among"),
        ("UPDATE trials SET datetime_start = 'x'", "Invalid isoformat"),
        ("DELETE FROM trials WHERE number = 1", "numbered from 0 without a gap"),
        ("UPDATE study_directions SET direction = 'x'", "LookupError: 'x' is not among"),
        ("UPDATE trial_params SET distribution_json = '[]'", "must be as it was written"),
        ("UPDATE study_user_attributes SET value_json = '{'", "must be as it was written"),
        ("UPDATE study_user_attributes SET value_json = '7'", "must be as it was written"),
        (
            "UPDATE trial_user_attributes SET value_json = '{\"a\": 1}' WHERE key = 'verdict'",
            "KeyError: 'limits'",
        ),
        (
            "UPDATE trial_user_attributes SET value_json = '[\"usd\"]' WHERE key = 'spent:a'",
            "spent:a must be names and values",
        ),
        (
            "UPDATE trial_values SET value = NULL, value_type = 'INF_POS'",
            "must be a finite number, got inf",
        ),
    ],
)
def test_damaged_records_are_named(sweep_dir, capsys, statement, message):
    loop = loop_of(sweep_dir)
    loop.study.enqueue_trial({"width": 1, "rate": 0.5}, user_attrs={"spent:a": {"usd": 1.0}})
    with closing(sqlite3.connect(sweep_dir / "study.db")) as database, database:
        assert database.execute(statement).rowcount
    with pytest.raises(ValueError, match=message) as refused:
        reported_study(sweep_dir)
    assert "; bring back a copy of its storage" in str(refused.value)
    assert report(sweep_dir, capsys)[0] == cli.BAD_INPUT


@pytest.mark.parametrize(
    ("entry", "name"),
    [("limits", "joy"), ("training", "macs"), ("used", "joy")],
)
def test_costs_that_nobody_knows_are_named(sweep_dir, entry, name):
    write_sweep(collect(sweep_dir), reported_study(sweep_dir))
    (sweep_dir / "study.db").unlink()
    path = sweep_dir / "sweep.json"
    document = json.loads(path.read_text())
    document["study"][entry] = {name: 1.0}
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=rf"{entry} must be of .*, got '{name}'\); bring its"):
        reported_study(sweep_dir)
