"""JSON and YAML documents that anyone may have written, read as plain data."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

LARGEST_JSON = 2**28
"""Bytes of the largest JSON document that is read."""
LARGEST_YAML = 2**20
_DEEPEST = 100
_MOST_DIGITS = 101  # of which one may be a sign; floats end at 308


class UnreadableError(ValueError):
    """Says what is wrong with a document, for a sentence that begins with "got"."""


def read_json(path: Path) -> Any:
    """The content of a JSON document.

    Raises:
        UnreadableError: If it is larger than :data:`LARGEST_JSON`, no text, cut off, nested
            deeply, names something twice, or holds a number that is not finite.
        OSError: If it cannot be read.
    """
    return parse_json(_bytes_of(path, LARGEST_JSON))


def parse_json(content: bytes) -> Any:
    """As :func:`read_json`, of what was read already.

    >>> parse_json(b'{"a": [1, 2.5]}')
    {'a': [1, 2.5]}
    """
    try:
        document = json.loads(
            _text_of(content),
            object_pairs_hook=_named_once,
            parse_constant=_not_finite,
            parse_float=_finite,
            parse_int=_small,
        )
    except json.JSONDecodeError as error:
        raise UnreadableError(f"text that ends or breaks at character {error.pos}") from None
    except RecursionError:
        raise UnreadableError("lists in lists too deep to follow") from None
    return document


def read_yaml(path: Path) -> Any:
    """The content of a YAML document of settings, in plain data; nothing in it is looked up.

    Raises:
        UnreadableError: If it is larger than :data:`LARGEST_YAML`, no YAML, nested deeply, names
            something twice, repeats a part by an alias, or asks for a value from elsewhere.
        OSError: If it cannot be read.
    """
    text = _text_of(_bytes_of(path, LARGEST_YAML))
    try:
        _check_events(text)
        content = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    except UnreadableError:
        raise
    except AssertionError:
        raise UnreadableError("a single value") from None
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, TypeError, OSError) as error:
        cause = " ".join(str(error).split())[:200]
        raise UnreadableError(f"no YAML of settings ({cause})") from None
    _check_plain(content)
    return content


def _bytes_of(path: Path, largest: int) -> bytes:
    with path.open("rb") as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise UnreadableError(f"more than {largest:,} bytes")
    return content


def _text_of(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UnreadableError("bytes that are no text") from None


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise UnreadableError(f"the name {twice!r} twice")
    return found


def _not_finite(text: str) -> NoReturn:
    raise UnreadableError(f"{text}, which is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _not_finite(text)


def _small(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise UnreadableError(f"a number of {len(text)} digits")
    return int(text)


def _check_events(text: str) -> None:
    """Refuse what would take time or memory out of proportion once it is built."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise UnreadableError(f"a part that is repeated by *{event.anchor}; write it out")
        depth += isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent))
        depth -= isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent))
        if depth > _DEEPEST:
            raise UnreadableError(f"lists in lists, more than {_DEEPEST} deep")


def _check_plain(content: Any) -> None:
    if isinstance(content, str) and "${" in content:
        raise UnreadableError(f"{content!r}, which asks for a value from elsewhere; write it down")
    if isinstance(content, Mapping):
        for name, value in content.items():
            _check_plain(name)
            _check_plain(value)
    elif isinstance(content, list):
        for value in content:
            _check_plain(value)
    elif isinstance(content, int) and abs(content) > 1e100:
        raise UnreadableError("a number of more than 100 digits")
