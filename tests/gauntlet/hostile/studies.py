"""Hostile sweeps: the document that a page is made of, and the storage of a study."""

import json
import sqlite3
import tempfile
from contextlib import closing, redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path
from random import Random
from typing import Any

from lightning_cost.report.study.record import Study
from lightning_cost.report.sweep.document import SWEEP_NAME, build_document, read_sweep
from lightning_cost.report.sweep.page import write_sweep
from lightning_cost.report.sweep.rows import collect
from lightning_cost.sweep.link import StudyLink
from lightning_cost.sweep.reported_study import reported_study
from lightning_cost.sweep.storage import STUDY_NAME, storage_errors, url_of
from lightning_cost.sweep.study_record import describe, require_sound
from tests.gauntlet.hostile.damage import as_text, damaged, damaged_bytes, odd_value
from tests.gauntlet.hostile.documents import require_inert
from tests.gauntlet.hostile.trial import SilentError, Subject
from tests.sweep import test_loop as made_up

_STUDY = "sweep"
_ATTRIBUTES = ("study_user_attributes", "trial_user_attributes", "trial_system_attributes")
_TABLES = (*_ATTRIBUTES, "trials", "trial_values", "trial_params", "studies", "study_directions")


@cache
def _storage() -> bytes:
    """A database with a study that is over, and another one of other parameters."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        other = made_up.space_of("depth=choice(1)")
        for name, space in ((_STUDY, made_up.SPACE), ("other", other)):
            judge = made_up.judge if name == _STUDY else lambda _: made_up.Verdict()
            loop = made_up.loop_of(
                folder, space=space, judge=judge, study=name, make=_Runs, sampler="random"
            )
            describe(loop.study, loop.space, loop.settings)
            with redirect_stdout(StringIO()):
                loop.run()
        return (folder / STUDY_NAME).read_bytes()


class _Runs(made_up.Runs):
    """Trainings whose value is the same whatever their settings are called."""

    def __call__(self, jobs: Any) -> Any:
        for job in jobs:
            outcome = made_up.Outcome(
                state="finished",
                values=(float(job.settings.get("rate", 0.5)),),
                constraints={"macs": -0.5},
            )
            made_up.say(self.study, job.number, outcome)
        return [None for _ in jobs]


def study(random: Random, folder: Path) -> None:
    """The storage of a sweep, damaged: reported, or gone on with by the sweep's own command."""
    path = folder / STUDY_NAME
    path.write_bytes(_storage())
    StudyLink(url=url_of(None, folder), study=_STUDY, objectives={}, pruner="none").save(folder)
    if random.random() < 0.3:
        path.write_bytes(damaged_bytes(_storage(), random))
    else:
        with closing(sqlite3.connect(path)) as database, database:
            for _ in range(random.choice((1, 1, 2))):
                _change(database, random)
    if random.random() < 0.3:
        _go_on(folder)
    found = reported_study(folder)
    page = write_sweep(collect(folder), found).read_text(encoding="utf-8")
    require_inert(page)
    if Study.from_dict(read_sweep(folder)["study"]) != found:
        raise SilentError("the study in the document is another one")


def _change(database: sqlite3.Connection, random: Random) -> None:
    """Change what users of the database could."""
    kind = random.randrange(5)
    if kind <= 1:
        table = random.choice(_ATTRIBUTES)
        rows = database.execute(f"SELECT rowid, value_json FROM {table}").fetchall()
        row, text = random.choice(rows)
        changed = as_text(damaged(json.loads(text), random), random).decode(errors="replace")
        database.execute(f"UPDATE {table} SET value_json = ? WHERE rowid = ?", (changed, row))
    elif kind == 2:
        table = random.choice(_TABLES)
        rows = [row for (row,) in database.execute(f"SELECT rowid FROM {table}")]
        database.execute(f"DELETE FROM {table} WHERE rowid = ?", (random.choice(rows),))
    elif kind == 3:
        database.execute("UPDATE trials SET study_id = 3 - study_id WHERE number < 3")
    else:
        table, column, odd = random.choice(
            (
                ("trial_values", "value", random.choice((None, 1e308, -1.0, "x"))),
                ("trial_values", "value_type", random.choice(("INF_POS", "INF_NEG", "x"))),
                ("trial_params", "param_value", random.choice((-1.0, 1e9, "x"))),
                ("trial_params", "distribution_json", json.dumps(odd_value(random))),
                ("trial_params", "param_name", random.choice(("", "<script>", "x"))),
                ("trials", "state", random.choice(("RUNNING", "FAIL", "x", "WAITING"))),
                ("trials", "datetime_start", random.choice((None, "x", "9999-12-31 00:00:00"))),
                ("trials", "number", random.choice((-1, 0, 10**6))),
                ("studies", "study_name", random.choice(("", "x"))),
                ("study_directions", "direction", random.choice(("MAXIMIZE", "x"))),
            )
        )
        rows = [row for (row,) in database.execute(f"SELECT rowid FROM {table}")]
        database.execute(
            f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (odd, random.choice(rows))
        )


def _go_on(folder: Path) -> None:
    url = url_of(None, folder)
    loop = made_up.loop_of(folder, make=_Runs, sampler="random", num_trials=8, max_infeasible=50)
    with redirect_stdout(StringIO()), storage_errors(url):
        require_sound(loop.study, url, folder)
        loop.run()
    finished = [trial for trial in loop.study.trials if trial.values]
    if not all(len(trial.values) == 1 for trial in finished):
        raise SilentError("values without an objective")


@cache
def _document() -> str:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / STUDY_NAME).write_bytes(_storage())
        url = url_of(None, folder)
        StudyLink(url=url, study=_STUDY, objectives={}, pruner="none").save(folder)
        return json.dumps(build_document(collect(folder), reported_study(folder)))


def sweep_document(random: Random, folder: Path) -> None:
    """The document of a sweep whose storage is gone."""
    document = damaged(json.loads(_document()), random)
    (folder / SWEEP_NAME).write_bytes(as_text(document, random))
    StudyLink(url="sqlite:////nowhere/study.db", study=_STUDY, objectives={}, pruner="x").save(
        folder
    )
    found = reported_study(folder)
    if found is None:
        raise SilentError("a sweep with a study is one without")
    require_inert(write_sweep(collect(folder), found).read_text(encoding="utf-8"))
    if reported_study(folder) != found:
        raise SilentError("a document that was read and written is another one")


SUBJECTS = (
    Subject(name="sweep documents", hand_in=sweep_document),
    Subject(name="studies", hand_in=study, weight=0.3),
)
