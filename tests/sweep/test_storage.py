import contextlib
import sqlite3

import optuna
import pytest
from sqlalchemy import event

from lightning_cost.sweep.settings import SweepSettings
from lightning_cost.sweep.storage import (
    found_url,
    open_storage,
    open_study,
    storage_errors,
    url_of,
)
from tests.sweep.spaces import space_of

SPACE = space_of("width=range(1,9)", "budget.macs=50%")


def opened(folder, *words, **settings):
    space = space_of(*words) if words else SPACE
    return open_study(url_of(None, folder), space, SweepSettings(**settings))


@pytest.mark.parametrize(
    ("words", "settings", "message"),
    [
        (
            ["width=range(1,5)", "budget.macs=50%"],
            {},
            r"space: width is 'IntDistribution\(high=8.*",
        ),
        (["depth=range(1,5)", "budget.macs=50%"], {}, "space: width is .* there and missing here"),
        (["width=range(1,9)", "budget.macs=40%"], {}, "overrides: budget.macs is '50%' there"),
        ([], {"objectives": ["macs"]}, "objectives: val/accuracy is 'maximize' there and missing"),
        (
            [],
            {"objectives": {"val/accuracy": "minimize"}},
            "val/accuracy is 'maximize' there and 'minimize' here",
        ),
    ],
)
def test_a_study_of_something_else_is_refused(tmp_path, words, settings, message):
    opened(tmp_path)
    with pytest.raises(ValueError, match=f"study must be of this sweep, .*{message}"):
        opened(tmp_path, *words, **settings)


def test_a_folder_with_braces_in_its_name(tmp_path):
    folder = tmp_path / "{SCHEMA_VERSION} of {mine}"
    folder.mkdir()
    opened(folder).add_trial(optuna.create_trial(value=0.5))
    assert (folder / "study.db").exists()
    assert len(opened(folder).trials) == 1


def test_what_may_change_between_two_starts(tmp_path):
    opened(tmp_path)
    words = ["width=range(1,9)", "budget.macs=50%", "trainer.num_threads=2", "hydra.sweep.dir=x"]
    opened(tmp_path, *words, num_trials=99, sampler="random", num_jobs=3)


def test_a_study_that_no_sweep_wrote(tmp_path):
    url = url_of(None, tmp_path)
    study = optuna.create_study(study_name="sweep", storage=url)
    study.add_trial(optuna.create_trial(value=1.0))
    with pytest.raises(ValueError, match="it was not written by a sweep"):
        opened(tmp_path)


def test_a_start_that_was_killed_before_it_signed(tmp_path):
    url = url_of(None, tmp_path)
    optuna.create_study(study_name="sweep", storage=url, direction="maximize")
    assert opened(tmp_path).user_attrs["signature"]


def test_a_file_that_is_no_database(tmp_path):
    (tmp_path / "study.db").write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(ValueError, match=r"storage must be a database .*file is not a database"):
        opened(tmp_path)


def test_a_journal_of_something_else(tmp_path):
    (tmp_path / "log").write_text('{"a": 1}\n')
    url = url_of(f"journal:{tmp_path / 'log'}", tmp_path)
    with pytest.raises(ValueError, match="storage must be a journal that Optuna wrote"):
        open_study(url, SPACE, SweepSettings())


@pytest.mark.parametrize(
    "said", ["database is locked", "database or disk is full", "disk I/O error"]
)
def test_an_error_of_the_database_names_it_and_what_helps(said):
    from sqlalchemy.exc import OperationalError

    with (
        pytest.raises(
            ValueError, match=rf"got 'sqlite:///x.db': {said}; see that .* disk has room"
        ),
        storage_errors("sqlite:///x.db"),
    ):
        raise OperationalError("insert", {}, sqlite3.OperationalError(said))


def test_a_database_that_another_program_has_locked(tmp_path, monkeypatch):
    monkeypatch.setattr("lightning_cost.sweep.storage._TIMEOUT_S", 0.05)
    opened(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / "study.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ValueError, match=r"storage must be .*database is locked; see that"):
            opened(tmp_path)
    opened(tmp_path)  # and is whole when the lock is gone


def test_a_database_that_has_no_room(tmp_path):
    """Where SQLite may not add a page it fails as on a full disk; the study stays as it was."""
    study = opened(tmp_path)
    study.add_trial(optuna.create_trial(value=1.0))
    storage = open_storage(url_of(None, tmp_path))

    @event.listens_for(storage.engine, "connect")
    def _without_room(connection, _):
        connection.execute("PRAGMA max_page_count=1")

    storage.engine.dispose()
    full = optuna.load_study(study_name="sweep", storage=storage)

    def write():
        for number in range(99):
            full.set_user_attr(f"of some length {number}", "x" * 2000)

    message = r"storage must be .*database or disk is full; see that .* its disk has room"
    with pytest.raises(ValueError, match=message), storage_errors("sqlite:///study.db"):
        write()
    assert [trial.value for trial in opened(tmp_path).trials] == [1.0]


def test_an_unknown_kind_of_database():
    with pytest.raises(ValueError, match="storage must be a database that can be read"):
        open_storage("nothing://here")


def test_a_link_to_a_file_of_something_else_is_not_followed(tmp_path):
    sweep_dir, precious = tmp_path / "sweep", tmp_path / "precious.db"
    sweep_dir.mkdir()
    with sqlite3.connect(precious) as database:
        database.execute("CREATE TABLE passwords (word TEXT)")
    database.close()
    before = precious.read_bytes()
    text = tmp_path / "notes.txt"
    text.write_text("mine")
    for url in (f"sqlite:///{precious}", f"sqlite:///{text}", f"journal:{text}"):
        assert found_url(url, sweep_dir) is None
    assert found_url(f"sqlite:///{tmp_path}", sweep_dir) is None
    assert (precious.read_bytes(), text.read_text()) == (before, "mine")


def test_a_storage_beside_the_sweeps_is_found(tmp_path):
    sweep_dir = tmp_path / "sweep"
    sweep_dir.mkdir()
    opened(tmp_path)
    url = url_of(None, tmp_path)
    assert found_url(url, sweep_dir) == url
    journal = tmp_path / "journal.log"
    storage = open_storage(f"journal:{journal}")
    optuna.create_study(storage=storage)
    assert found_url(f"journal:{journal}", sweep_dir) == f"journal:{journal}"
