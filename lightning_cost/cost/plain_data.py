"""Entries of plain data that anyone may have written, looked at before they are believed."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

LARGEST = 1e100
"""Of the numbers that are taken for an amount: what is reckoned with them stays finite."""
ANOTHER_CHECKPOINT = "go on from another checkpoint of the run, or begin it anew"
"""What helps where a checkpoint is of no use."""
UNREADABLE = (
    LookupError,
    TypeError,
    AttributeError,
    ValueError,
    ArithmeticError,
    RuntimeError,
    AssertionError,
)
"""What code raises that reads data of another form than it expects."""


def number(value: object, name: str) -> Any:
    """``value``, if it is a finite number.

    Raises:
        ValueError: If it is none.

    >>> number(2, "loss")
    2
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not abs(value) <= sys.float_info.max:  # type: ignore[arg-type]
        raise ValueError(f"{name} must be a finite number, got {value!r:.60}")
    return value


def amount(value: object, name: str, *, least: float = 0) -> Any:
    """``value``, if it is a number from ``least`` to :data:`LARGEST`."""
    number(value, name)
    if not least <= value <= LARGEST:  # type: ignore[operator]
        raise ValueError(f"{name} must be from {least:g} to {LARGEST:g}, got {value!r:.60}")
    return value


def count(value: object, name: str) -> int:
    """``value``, if it is a whole number that is not negative."""
    if type(value) is not int or not 0 <= value <= LARGEST:
        raise ValueError(f"{name} must be a whole number >= 0, got {value!r:.60}")
    return value


def flag(value: object, name: str) -> bool:
    """``value``, if it is true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {value!r:.60}")
    return value


def text(value: object, name: str) -> str:
    """``value``, if it is a text."""
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a text, got {value!r:.60}")
    return value


def entries(value: object, name: str) -> Mapping[str, Any]:
    """``value``, if it is names and what they stand for."""
    if not isinstance(value, Mapping) or not all(isinstance(each, str) for each in value):
        raise ValueError(f"{name} must be names and values, got {value!r:.60}")
    return value


def items(value: object, name: str) -> list[Any]:
    """``value`` as a list, if it is one."""
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{name} must be a list, got {value!r:.60}")
    return list(value)


def texts(value: object, name: str) -> list[str]:
    """``value``, if it is a list of texts."""
    return [text(each, name) for each in items(value, name)]


def amounts(value: object, name: str, *, least: float = 0.0) -> dict[str, float]:
    """``value``, if it is names and amounts, none of which is less than ``least``."""
    return {
        each: amount(told, f"{name}[{each!r:.60}]", least=least)
        for each, told in entries(value, name).items()
    }


@contextmanager
def read_as_written(what: str, remedy: str) -> Iterator[None]:
    """Say of whatever goes wrong in the block, which reads plain data, what was read.

    Args:
        what: Was read, for the beginning of a sentence.
        remedy: For its end.

    Raises:
        ValueError: In place of any error of :data:`UNREADABLE`.
    """
    try:
        yield
    except UNREADABLE as error:
        kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
        cause = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{what} must be as it was written, but it is damaged ({kind}{cause}); {remedy}"
        ) from error
