import copy
import json

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.report.schema import load_schema
from lightning_cost.report.study.record import Study
from lightning_cost.report.sweep.document import (
    SCHEMA_NAME,
    build_document,
    read_sweep,
    save_document,
    sweep_violations,
)
from lightning_cost.report.sweep.rows import collect


@pytest.fixture
def document(study_dir, make_study):
    return build_document(collect(study_dir), make_study())


def paths(value, path=()):
    """Every place in a document."""
    yield path
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from paths(item, (*path, key))


def test_a_document_comes_back(document, tmp_path, make_study):
    save_document(document, tmp_path)
    assert read_sweep(tmp_path) == document
    assert Study.from_dict(document["study"]) == make_study()


def test_the_schema_means_what_jsonschema_means(document):
    validator = jsonschema.Draft202012Validator(load_schema(SCHEMA_NAME))
    assert not list(validator.iter_errors(document))
    places = [path for path in paths(document) if path]

    @given(st.sampled_from(places), st.sampled_from([None, -1, "x", [], {}, True, "remove"]))
    def check(path, wrong):
        damaged = copy.deepcopy(document)
        inside = damaged
        for key in path[:-1]:
            inside = inside[key]
        if wrong == "remove":
            del inside[path[-1]]
        else:
            inside[path[-1]] = wrong
        assert bool(sweep_violations(damaged)) == bool(list(validator.iter_errors(damaged)))

    check()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"schema_version": 1', "text that ends or breaks"),
        ('{"schema_version": 0}', "must have schema_version 1, got 0"),
        ('{"schema_version": 1}', "sweep must have 'objectives'"),
    ],
)
def test_a_damaged_document(tmp_path, text, message):
    (tmp_path / "sweep.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_sweep(tmp_path)


def test_no_document(tmp_path):
    with pytest.raises(
        ValueError, match=r"sweep_dir must be a sweep's directory with a sweep.json"
    ):
        read_sweep(tmp_path)


def test_a_study_without_a_finished_trial(tmp_path, make_study):
    document = build_document(collect(tmp_path), make_study())
    assert document["runs"] == []
    assert document["objectives"] == {"latency_ms": "min", "val_acc": "max"}
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_nothing_at_all(tmp_path):
    with pytest.raises(ValueError, match="sweep_dir must hold runs"):
        build_document(collect(tmp_path), Study(name="sweep", objectives={"acc": "max"}))


def test_objectives_that_are_costs_are_weighed_against_the_deciding_metric(study_dir):
    study = Study(name="sweep", objectives={"macs": "min"})
    with pytest.raises(ValueError, match="sweep_dir must hold runs"):
        build_document(collect(study_dir / "0"), study)
    objectives = build_document(collect(study_dir), study)["objectives"]
    assert objectives == {"latency_ms": "min", "macs": "min", "val_acc": "max"}
