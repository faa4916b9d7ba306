"""How much of the gauntlet is run, and where."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """What a section is told.

    Args:
        is_short: Whether to try as much as CI has time for; else all there is.
        seed: Of everything that is drawn at random.
        folder: Scratch of the section; new, and deleted afterwards unless something went wrong.
    """

    is_short: bool
    seed: int
    folder: Path

    def choose(self, short: _T, whole: _T) -> _T:
        """``short`` in the short gauntlet, ``whole`` in the whole one."""
        return short if self.is_short else whole
