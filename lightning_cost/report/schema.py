"""Checks a document against its JSON schema, without a dependency for it.

Knows the part of JSON Schema that our schema uses; the tests hold it against ``jsonschema``.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

SCHEMA_VERSION = 5


@cache
def load_schema(name: str = "schema.json") -> dict[str, Any]:
    """The JSON schema of ``report.json``, or another of this folder; treat it as read-only."""
    text = files(__package__).joinpath(name).read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def violations(report: object) -> Iterator[str]:
    """Every place where ``report`` breaks the schema, as ``path must ..., got ...``.

    >>> next(violations([]))
    'report must be of type object, got list []'
    """
    return schema_violations(report, load_schema(), "report")


def schema_violations(document: object, schema: Mapping[str, Any], name: str) -> Iterator[str]:
    """Every place where a document called ``name`` breaks ``schema``.

    >>> next(schema_violations(1, {"type": "string"}, "word"))
    'word must be of type string, got int 1'
    """
    return _check(document, schema, name, schema.get("$defs", {}))


_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, Mapping),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": lambda value: _is_number(value),
    "integer": lambda value: _is_number(value) and value == value // 1,
}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check(
    value: Any, rule: Mapping[str, Any], path: str, parts: Mapping[str, Any]
) -> Iterator[str]:
    if "$ref" in rule:
        rule = parts[rule["$ref"].rpartition("/")[2]]
    if "const" in rule and (value != rule["const"] or isinstance(value, bool)):
        yield f"{path} must be {rule['const']}, got {value!r}"
    if "enum" in rule and value not in rule["enum"]:
        yield f"{path} must be one of {rule['enum']}, got {value!r}"
    if "type" in rule:
        types = rule["type"] if isinstance(rule["type"], list) else [rule["type"]]
        if not any(_TYPES[name](value) for name in types):
            got = f"{type(value).__name__} {value!r:.60}"
            yield f"{path} must be of type {' or '.join(types)}, got {got}"
            return
    if isinstance(value, Mapping):
        yield from _check_object(value, rule, path, parts)
    elif isinstance(value, list):
        if not rule.get("minItems", 0) <= len(value) <= rule.get("maxItems", len(value)):
            yield f"{path} must have {rule['minItems']} items, got {len(value)}"
        if "items" in rule:
            for index, item in enumerate(value):
                yield from _check(item, rule["items"], f"{path}[{index}]", parts)
    elif _is_number(value) and value < rule.get("minimum", value):
        yield f"{path} must be >= {rule['minimum']}, got {value}"


def _check_object(
    value: Mapping[str, Any], rule: Mapping[str, Any], path: str, parts: Mapping[str, Any]
) -> Iterator[str]:
    for name in rule.get("required", ()):
        if name not in value:
            yield f"{path} must have {name!r}, got only {', '.join(map(str, value)) or 'nothing'}"
    properties = rule.get("properties", {})
    others = rule.get("additionalProperties", True)
    for name, item in value.items():
        if name in properties:
            yield from _check(item, properties[name], f"{path}.{name}", parts)
        elif others is False:
            yield f"{path} must have only the documented fields, got {name!r}"
        elif others is not True:
            yield from _check(item, others, f"{path}.{name}", parts)
