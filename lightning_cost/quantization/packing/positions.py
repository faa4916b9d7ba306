"""Lists of channels in a header as bit masks: a bit for each channel, not a number."""

from typing import Any

_KEY = "."  # no module and no setting is called so
_LEAST = 4
_MOST = 2**20


def with_masks(data: Any) -> Any:
    """JSON-compatible ``data`` with masks for ascending lists of at least four positions.

    >>> with_masks({"kept": [0, 1, 3, 9], "other": [3, 1]})
    {'kept': {'.': '20b'}, 'other': [3, 1]}
    """
    if isinstance(data, dict):
        return {key: with_masks(value) for key, value in data.items()}
    if not isinstance(data, list):
        return data
    if _are_positions(data):
        return {_KEY: format(sum(1 << position for position in data), "x")}
    return [with_masks(value) for value in data]


def without_masks(data: Any) -> Any:
    """The inverse of :func:`with_masks`.

    Raises:
        ValueError: If a mask is not one.
    """
    if isinstance(data, list):
        return [without_masks(value) for value in data]
    if not isinstance(data, dict):
        return data
    if data.keys() == {_KEY}:
        digits = format(int(data[_KEY], 16), "b")
        return [place for place, digit in enumerate(reversed(digits)) if digit == "1"]
    return {key: without_masks(value) for key, value in data.items()}


def _are_positions(values: list[Any]) -> bool:
    return (
        len(values) >= _LEAST
        and all(type(value) is int and 0 <= value < _MOST for value in values)
        and all(values[index] < values[index + 1] for index in range(len(values) - 1))
    )
