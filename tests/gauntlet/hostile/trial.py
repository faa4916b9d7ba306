"""One hostile input, handed in: accepted rightly, refused clearly, or neither."""

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

LIMIT_S = 20
"""Of processor time for one input, so that a busy machine changes nothing."""
LIMIT_ASLEEP_S = 300
PASSED, REFUSED, FAILED, HUNG, SILENT = "passed", "refused", "failed", "hung", "silent"
_SAYS_WHAT = re.compile(r"\bmust\b.*\b(got|but)\b", re.DOTALL)


class SilentError(Exception):
    """A wrong input was taken for a right one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """A kind of input.

    Args:
        name: In the table.
        hand_in: Makes an input of a random one, in a folder of its own, and hands it in. It raises
            :class:`SilentError` where what comes back is wrong.
        weight: How often it is tried, in comparison with others.
    """

    name: str
    hand_in: Callable[[Random, Path], Any]
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """What came of one input.

    Args:
        outcome: One of the words above.
        note: What went wrong.
    """

    outcome: str
    note: str = ""


class _OutOfTimeError(BaseException):
    """Raised in the middle of whatever hangs."""


def attempt(subject: Subject, seed: int, folder: Path) -> Trial:
    """Hand in the input that ``seed`` stands for."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _time_limit():
            subject.hand_in(Random(seed), folder)
    except SilentError as error:
        return Trial(outcome=SILENT, note=f"seed {seed}: {error}")
    except _OutOfTimeError:
        return Trial(outcome=HUNG, note=f"seed {seed}: more than {LIMIT_S} s of work")
    except (ValueError, TypeError, FileNotFoundError) as error:
        if explains(str(error)):
            return Trial(outcome=REFUSED)
        return Trial(outcome=FAILED, note=_told(seed, error))
    except Exception as error:  # any: that is what is looked for
        return Trial(outcome=FAILED, note=_told(seed, error))
    return Trial(outcome=PASSED)


def _told(seed: int, error: Exception) -> str:
    return f"seed {seed}: {type(error).__name__}: {str(error)[:300]}"


def explains(message: str) -> bool:
    """Whether a message has a rule, what was got instead, and a remedy behind it.

    >>> explains("macs must be > 0, got -1; leave it out"), explains("list index out of range")
    (True, False)
    """
    return _SAYS_WHAT.search(message) is not None and ";" in message


@contextmanager
def _time_limit() -> Iterator[None]:
    def interrupt(*_: object) -> None:
        raise _OutOfTimeError

    clocks = {signal.SIGPROF: signal.ITIMER_PROF, signal.SIGALRM: signal.ITIMER_REAL}
    limits = {signal.SIGPROF: LIMIT_S, signal.SIGALRM: LIMIT_ASLEEP_S}
    previous = {number: signal.signal(number, interrupt) for number in clocks}
    for number, clock in clocks.items():
        signal.setitimer(clock, limits[number])
    try:
        yield
    finally:
        for number, clock in clocks.items():
            signal.setitimer(clock, 0)
            signal.signal(number, previous[number])
