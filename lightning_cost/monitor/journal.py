"""What a run had used when it was killed: a small file beside its checkpoints.

A checkpoint knows what was used until it was written. What came after it is lost with the process,
and done again after a resume, but was used all the same.
"""

import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lightning_cost.cost.documents import read_json
from lightning_cost.cost.plain_data import amount

INTERVAL_S = 5.0
_OTHERS = ("run_id", "journal", "training", "evaluation")
_RUN_ID = re.compile(r"\w{1,64}")


class SpendJournal:
    """Keeps the state of a meter in a file, written anew every few seconds.

    Args:
        path: The file; its folder is made when it is first written.
        interval_s: Seconds between two writes, which is what a kill can lose.
    """

    def __init__(self, path: Path, *, interval_s: float = INTERVAL_S) -> None:
        self.path = path
        self._interval_s = interval_s
        self._next_at = float("-inf")

    def tick(self, seconds: float, state: Callable[[], dict[str, Any]]) -> None:
        """Write ``state`` if the last time was long enough ago, by a clock that shows ``seconds``.

        A file that cannot be written is left alone: training goes on without it.
        """
        if seconds >= self._next_at:
            self._next_at = seconds + self._interval_s
            self.write(state())

    def write(self, state: dict[str, Any]) -> None:
        """Replace the file by ``state`` in one step."""
        draft = self.path.with_suffix(".new")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(json.dumps(state))
            os.replace(draft, self.path)
        except OSError:
            return

    def read(self) -> dict[str, Any] | None:
        """What was last written, ``None`` if there is nothing that can be read."""
        try:
            state = read_json(self.path)
        except (OSError, ValueError):
            return None
        is_whole = isinstance(state, dict) and all(_is_possible(*entry) for entry in state.items())
        return state if is_whole else None

    def close(self) -> None:
        """Remove the file: the run has ended by itself, and its checkpoints know everything."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError:
            return


def find_journal(
    run_id: str, folders: Sequence[Path], recorded: str | None = None
) -> SpendJournal | None:
    """The journal of a run, which stays where it was begun, whatever restarts there are.

    Nothing but a file of the journal's own name is ever written, whatever a checkpoint says.

    Args:
        run_id: Of the run, the same after a resume.
        folders: Where its checkpoints lie, the one that is resumed first.
        recorded: The journal's path when that checkpoint was written.

    Returns:
        The one that exists, or a new one in the first of ``folders``; ``None`` without any, as
        what leaves no checkpoint cannot be resumed.

    Raises:
        ValueError: If ``run_id`` is none.
    """
    if not _RUN_ID.fullmatch(str(run_id)):
        raise ValueError(
            f"run_id must be letters and digits, got {run_id!r}; resume from a checkpoint that "
            "CostMonitor is in, or start anew"
        )
    places = [folder / f"spend-{run_id}.json" for folder in folders]
    if not places:
        return None
    # what a checkpoint of others says is no reason to write to any other file
    if isinstance(recorded, str) and Path(recorded).name == places[0].name:
        places.insert(1, Path(recorded))
    return SpendJournal(next((place for place in places if place.exists()), places[0]))


def _is_possible(name: str, value: object) -> bool:
    """Whether a meter's state may hold it: all amounts are numbers that are not negative."""
    if value is None or name in _OTHERS:
        return True
    try:
        amount(value, name)
    except ValueError:
        return False
    return True
