import copy
import json

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightning_cost.cost.resource import Resource
from lightning_cost.report.schema import load_schema, violations
from lightning_cost.report.spend import SPEND_UNITS

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-2, 2) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


def test_schema_is_itself_valid():
    jsonschema.Draft202012Validator.check_schema(load_schema())


def test_fixture_keeps_the_schema(report):
    assert list(violations(report)) == []
    jsonschema.validate(json.loads(json.dumps(report)), load_schema())


def test_schema_knows_every_resource_and_every_spend():
    schema = load_schema()
    assert set(schema["$defs"]["cost"]["properties"]) == {r.value for r in Resource}
    assert set(schema["properties"]["spend"]["required"]) == set(SPEND_UNITS)


def test_schema_uses_only_what_the_checker_knows():
    known = {"type", "required", "additionalProperties", "properties", "items", "minItems"}
    known |= {"maxItems", "minimum", "const", "enum", "$ref"}

    def rules(rule):
        yield rule
        for inner in rule.get("properties", {}).values():
            yield from rules(inner)
        for name in ("items", "additionalProperties"):
            if isinstance(rule.get(name), dict):
                yield from rules(rule[name])

    schema = load_schema()
    top = {"$schema", "title", "description", "$defs"}
    for each in (schema, *schema["$defs"].values()):
        for rule in rules(each):
            assert rule.keys() - known - top == set()


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_agrees_with_jsonschema_on_damaged_reports(report, data):
    damaged = copy.deepcopy(report)
    damaged["history"] = damaged["history"][:1]
    container = damaged
    while True:
        keys = range(len(container)) if isinstance(container, list) else sorted(container)
        if not keys:
            break
        key = data.draw(st.sampled_from(keys))
        inner = container[key]
        if isinstance(inner, dict | list) and inner and data.draw(st.booleans()):
            container = inner
            continue
        if data.draw(st.booleans()):
            container[key] = data.draw(JSON)
        else:
            del container[key]
        break
    expected = jsonschema.Draft202012Validator(load_schema()).is_valid(damaged)
    assert (not list(violations(damaged))) == expected


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("seed",), "7", r"report.seed must be of type integer or null, got str '7'"),
        (("final", "widths", "stem.conv"), [1], r"stem\.conv must have 2 items, got 1"),
        (("history", 0, "epoch"), -1, r"report\.history\[0\]\.epoch must be >= 0, got -1"),
        (("dense", "cost", "joules"), {}, r"only the documented fields, got 'joules'"),
    ],
)
def test_names_the_place(report, path, value, message):
    *containers, last = path
    container = report
    for key in containers:
        container = container[key]
    container[last] = value
    with pytest.raises(ValueError, match=message):
        raise ValueError(next(violations(report)))
