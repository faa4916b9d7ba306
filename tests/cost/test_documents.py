import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.cost import documents
from lightning_cost.cost.documents import UnreadableError, parse_json, read_json, read_yaml

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**99), 10**99) | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)  # fmt: skip


@given(PLAIN)
def test_plain_data_comes_back(document):
    assert parse_json(json.dumps(document).encode()) == document


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "text that ends or breaks at character 0"),
        (b'{"a": 1', "text that ends or breaks at character 7"),
        (b"\xff\xfe", "bytes that are no text"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "the name 'c' twice"),
        (b"[NaN]", "NaN, which is no JSON"),
        (b"[-Infinity]", "-Infinity, which is no JSON"),
        (b"[1e999]", "1e999, which is no JSON"),
        (b"9" * 5000, "a number of 5000 digits"),
        (b"[" * 100_000, "lists in lists too deep to follow"),
        (b'{"a":' * 100_000, "lists in lists too deep to follow"),
    ],
)
def test_what_is_no_plain_json_is_named(content, found):
    with pytest.raises(UnreadableError, match=found.replace("(", r"\(")):
        parse_json(content)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a: 1\na: 2\n", "no YAML of settings"),
        ("a: [1\n", "no YAML of settings"),
        ("a: !!python/object/apply:os.system ['true']\n", "no YAML of settings"),
        ("a: &x [1, 1]\nb: [*x, *x]\n", r"a part that is repeated by \*x; write it out"),
        ("a: ${oc.env:HOME}\n", "asks for a value from elsewhere"),
        ("a: {b: ['${a}']}\n", "asks for a value from elsewhere"),
        ("7\n", "a single value"),
        ("[" * 5000, "lists in lists, more than 100 deep"),
        ("- " * 5000, "lists in lists, more than 100 deep"),
        (f"a: {'9' * 5000}\n", "got|a number|no YAML"),
    ],
)
def test_what_is_no_plain_yaml_is_named(text, found, tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(UnreadableError, match=found):
        read_yaml(path)


@pytest.mark.parametrize(("read", "limit"), [(read_json, "JSON"), (read_yaml, "YAML")])
def test_no_more_is_read_than_a_document_may_have(read, limit, tmp_path, monkeypatch):
    monkeypatch.setattr(documents, f"LARGEST_{limit}", 50)
    path = tmp_path / "document"
    path.write_text("[" + "1," * 20 + "1]")
    assert read(path) == [1] * 21
    path.write_text("[" + "1," * 30 + "1]")
    with pytest.raises(UnreadableError, match="more than 50 bytes"):
        read(path)


def test_settings_come_back(tmp_path):
    whole = {"a": {"b": [1, 2.5, "x"], "c": None, "d": True}}
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(whole))
    assert read_yaml(path) == whole
