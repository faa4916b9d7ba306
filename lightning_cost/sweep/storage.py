"""Where a study is kept: a file beside its runs, or a database."""

import contextlib
import logging
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.exc import SQLAlchemyError

from lightning_cost.cost.plain_data import read_as_written
from lightning_cost.sweep.settings import SweepSettings
from lightning_cost.sweep.space import Space

Found = TypeVar("Found")

STUDY_NAME = "study.db"
JOURNAL = "journal:"
_SQLITE = "sqlite:///"
SIGNATURE = "signature"
_TIMEOUT_S = 60
_REMEDY = "bring back a copy of its storage, or begin anew in another hydra.sweep.dir"
# what may change from one start of a sweep to the next
_FREE = ("hydra", "trainer.progress_bar", "trainer.num_threads", "+hydra", "++hydra")


def url_of(storage: str | None, sweep_dir: Path) -> str:
    """The storage of a sweep as every process can open it.

    >>> url_of("journal:/data/journal.log", Path("/runs")), url_of(None, Path("/runs"))
    ('journal:/data/journal.log', 'sqlite:////runs/study.db')
    """
    if storage is None:
        return f"{_SQLITE}{(sweep_dir / STUDY_NAME).absolute()}"
    if storage.startswith(JOURNAL):
        return JOURNAL + str(Path(storage.removeprefix(JOURNAL)).absolute())
    return storage


def found_url(url: str, sweep_dir: Path) -> str | None:
    """Where a storage is now, which may have moved with its sweep; ``None`` where it is not.

    Nothing is made. A database that is reached by a network counts as there. A file of another
    kind, to which a link of unknown origin may lead, does not: opening it would change it.
    """
    kind = next((kind for kind in (_SQLITE, JOURNAL) if url.startswith(kind)), None)
    if kind is None:
        return url
    known = Path(url.removeprefix(kind).partition("?")[0])
    if known.is_file() and (_is_below(known, sweep_dir) or _holds_studies(known, kind)):
        return url
    moved = sweep_dir / known.name
    return f"{kind}{moved.absolute()}" if moved.is_file() else None


def _is_below(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _holds_studies(path: Path, kind: str) -> bool:
    """Whether a file, which is only read, is a storage of Optuna."""
    if kind == JOURNAL:
        with path.open("rb") as file:
            return b'"op_code"' in file.read(1000)
    try:
        database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    except sqlite3.Error:
        return False
    with contextlib.closing(database):
        try:
            found = database.execute("SELECT name FROM sqlite_master WHERE name = 'studies'")
            return found.fetchone() is not None
        except sqlite3.Error:
            return False


def open_storage(url: str) -> BaseStorage:
    """The storage at ``url``.

    Raises:
        ValueError: If it is no URL, or what is there cannot be read.
        ImportError: If the database's driver is missing.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with storage_errors(url), warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        if url.startswith(JOURNAL):
            backend = JournalFileBackend(url.removeprefix(JOURNAL))
            return JournalStorage(backend)
        options: dict[str, Any] = {}
        if url.startswith("sqlite:"):
            options = {"connect_args": {"timeout": _TIMEOUT_S}}
        # Optuna fills in what is in braces, which a folder's name may have
        template = url.replace("{", "{{").replace("}", "}}")
        return RDBStorage(template, engine_kwargs=options)


@contextlib.contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Say of an error of the storage which storage it is, and what helps.

    Raises:
        ValueError: In place of an error of the database or the journal.
    """
    logger = logging.getLogger("optuna")
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        cause = getattr(error, "orig", None) or error.__cause__ or error
        cause = getattr(cause, "orig", None) or cause
        logger.debug("storage", exc_info=error)
        raise ValueError(
            f"storage must be a database that can be read and written, got {url!r}: {cause}; "
            "see that it is whole, not locked by another program and that its disk has room, or "
            "choose another with hydra.sweeper.storage="
        ) from error
    except (KeyError, UnicodeDecodeError) as error:
        if not url.startswith(JOURNAL):
            raise
        raise ValueError(
            f"storage must be a journal that Optuna wrote, got {url!r} with something else "
            f"({error}); choose another with hydra.sweeper.storage="
        ) from error


def study_errors(url: str, name: str) -> contextlib.AbstractContextManager[None]:
    """Say of an error while a study's records are read which study it is, and what helps.

    Raises:
        ValueError: In place of an error by records of another form.
    """
    return read_as_written(f"the study {name!r} in {url!r}", _REMEDY)


def signature_of(space: Space, settings: SweepSettings) -> dict[str, dict[str, str]]:
    """What all starts of a sweep must have in common."""
    return {
        "space": {key: str(distribution) for key, distribution in space.distributions.items()},
        "objectives": {each.name: each.direction for each in settings.found},
        "overrides": {
            word.partition("=")[0]: word.partition("=")[2]
            for word in space.fixed
            if not word.startswith(_FREE)
        },
    }


def differences(known: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """In words, where two signatures differ.

    >>> differences({"objectives": {"a": "minimize"}}, {"objectives": {"a": "maximize"}})
    ["objectives: a is 'minimize' there and 'maximize' here"]
    """
    found = []
    for part in known:
        there, here = known[part], asked.get(part, {})
        for key in dict.fromkeys([*there, *here]):
            if there.get(key) != here.get(key):
                told = ["missing" if key not in side else repr(side[key]) for side in (there, here)]
                found.append(f"{part}: {key} is {told[0]} there and {told[1]} here")
    return found


def open_study(url: str, space: Space, settings: SweepSettings) -> optuna.Study:
    """The study of this sweep, made if it is not there yet; not yet with a sampler.

    Raises:
        ValueError: If the study there is of another space, other objectives or another budget;
            names the differences.
    """
    storage = open_storage(url)
    asked = signature_of(space, settings)
    directions = [each.direction for each in settings.found]
    with storage_errors(url):
        names = _names_in(storage, url)
        if settings.study not in names:
            study = optuna.create_study(
                storage=storage, study_name=settings.study, directions=directions
            )
            study.set_user_attr(SIGNATURE, asked)
            return study
        with study_errors(url, settings.study):
            study = optuna.load_study(study_name=settings.study, storage=storage)
            known = study.user_attrs.get(SIGNATURE)
            is_empty = not study.get_trials(deepcopy=False)
        if known is None and is_empty:
            # another start was killed between making the study and signing it
            study.set_user_attr(SIGNATURE, asked)
            known = asked
        with study_errors(url, settings.study):
            found = (
                ["it was not written by a sweep"]
                if known is None
                else [*differences(known, asked), *_directions(study, directions)]
            )
    if found:
        raise ValueError(
            f"study must be of this sweep, got {settings.study!r} in {url!r}: "
            f"{'; '.join(found)}; choose another hydra.sweep.dir, or hydra.sweeper.study="
        )
    return study


def load_study(url: str, name: str, read: Callable[[optuna.Study], Found]) -> Found:
    """What ``read`` finds in a study that is there.

    Raises:
        ValueError: If its storage is damaged, or holds no study called ``name``.
    """
    storage = open_storage(url)
    with storage_errors(url):
        names = _names_in(storage, url)
        if name not in names:
            raise ValueError(
                f"storage must hold the study {name!r}, got {url!r} with "
                f"{', '.join(map(repr, names)) or 'none'}; bring its file back"
            )
        with study_errors(url, name):
            return read(optuna.load_study(study_name=name, storage=storage))


def _names_in(storage: BaseStorage, url: str) -> list[str]:
    with read_as_written(f"the list of studies in {url!r}", _REMEDY):
        return optuna.get_all_study_names(storage)


def _directions(study: optuna.Study, directions: list[Any]) -> list[str]:
    there = [direction.name.lower() for direction in study.directions]
    return [] if there == directions else [f"it is to {there} there and to {directions} here"]
