"""Which process runs which trial, so that those of a dead one are run again and no others."""

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
from filelock import FileLock, Timeout

OWNER = "owner"
_FOLDER = ".locks"
_PULSE_S = 30.0
_SILENCE_S = 180.0
ALIVE = "alive:"
"""Of a study, with the name of a process: when it was last heard of."""


class Ownership:
    """This process among all that work on a study.

    A process holds the lock of a file in the sweep's directory for as long as it lives; where two
    machines have directories of their own, a pulse in the study stands for it.

    Args:
        sweep_dir: Of this process.
        study: Shared by all.
        clock: Seconds since the epoch.
    """

    def __init__(
        self, sweep_dir: Path, study: optuna.Study, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.token = uuid.uuid4().hex
        self._folder = sweep_dir / _FOLDER
        self._study = study
        self._clock = clock
        self._ended = threading.Event()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Be alive for the others, until the end of the block."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self._path(self.token)):
            pulse = threading.Thread(target=self._beat, daemon=True)
            self._pulse()
            pulse.start()
            try:
                yield
            finally:
                self._ended.set()
                pulse.join()
                with contextlib.suppress(Exception):  # of a storage that ended the sweep itself
                    self._study.set_user_attr(ALIVE + self.token, 0.0)
        self._path(self.token).unlink(missing_ok=True)

    def is_alive(self, owner: str | None) -> bool:
        """Whether the process called ``owner`` still runs."""
        if owner is None:
            return False
        if owner == self.token:
            return True
        if self._path(owner).exists():
            return is_held(self._path(owner))
        pulse: float = self._study.user_attrs.get(ALIVE + owner, 0.0)
        return self._clock() - pulse < _SILENCE_S

    def _path(self, owner: str) -> Path:
        return self._folder / f"{owner}.lock"

    def _pulse(self) -> None:
        self._study.set_user_attr(ALIVE + self.token, self._clock())

    def _beat(self) -> None:
        while not self._ended.wait(_PULSE_S):
            # a storage that is busy now hears of it the next time
            with contextlib.suppress(Exception):
                self._pulse()


def job_lock(sweep_dir: Path, number: int) -> Path:
    """The file that the job of a trial holds the lock of, wherever it was launched to."""
    folder = sweep_dir / _FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"trial_{number}.lock"


def study_lock(sweep_dir: Path) -> FileLock:
    """Held while trials are asked for, so that no two processes count the same ones."""
    folder = sweep_dir / _FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / "study.lock")


def is_held(path: Path) -> bool:
    """Whether another process holds the lock of ``path``."""
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True
