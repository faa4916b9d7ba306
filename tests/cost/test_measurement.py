import json
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.cost.measurement import (
    CONDITIONS,
    Measurement,
    Method,
    cost_from_dict,
    cost_to_dict,
)
from lightning_cost.cost.resource import Resource

_text = st.none() | st.text(max_size=5)
_number = st.none() | st.integers(1, 64)
measurements = st.builds(
    Measurement,
    value=st.floats(allow_nan=False, allow_infinity=False),
    unit=st.text(max_size=3),
    method=st.sampled_from(Method),
    spread=st.none() | st.floats(0, 1e9),
    interval=st.none() | st.tuples(st.floats(0, 1e9), st.floats(0, 1e9)),
    p95=st.none() | st.floats(0, 1e9),
    num_samples=_number,
    stopped_by=_text,
    device=_text,
    runtime=_text,
    num_threads=_number,
    batch_size=_number,
    dtype=_text,
    unsupported=st.lists(st.text(max_size=5), max_size=2).map(tuple),
)


@given(cost=st.dictionaries(st.sampled_from(Resource), measurements))
def test_a_cost_survives_json(cost):
    cost = {resource: replace(each, unit=resource.unit) for resource, each in cost.items()}
    assert cost_from_dict(json.loads(json.dumps(cost_to_dict(cost)))) == cost


def test_exact_is_of_one_sample_in_the_unit_of_the_resource():
    measurement = Measurement.exact(Resource.macs, 12, unsupported=("aten.fft",))
    assert measurement == Measurement(
        value=12, unit="MAC", method=Method.exact, batch_size=1, unsupported=("aten.fft",)
    )


def test_what_does_not_apply_is_left_out():
    assert Measurement.exact(Resource.params, 3).to_dict() == {
        "value": 3,
        "unit": "parameter",
        "method": "exact",
        "batch_size": 1,
        "unsupported": [],
    }


def test_fields_of_a_later_version_are_ignored():
    measurement = Measurement.exact(Resource.params, 3)
    assert Measurement.from_dict({**measurement.to_dict(), "humidity": 0.4}) == measurement


@pytest.mark.parametrize("method", Method)
def test_method_reads_as_its_name(method):
    assert str(method) == method.name


MEASURED = Measurement(
    value=4.0,
    unit="ms",
    method=Method.measured,
    device="a CPU",
    runtime="openvino",
    num_threads=1,
    batch_size=1,
    dtype="float32",
)
OTHERWISE = {
    "method": Method.estimated,
    "model": "roofline",
    "device": "another CPU",
    "runtime": "eager",
    "num_threads": 2,
    "batch_size": 8,
    "dtype": "bfloat16",
}


def test_a_ratio_of_two_alike():
    assert MEASURED.ratio_to(replace(MEASURED, value=2.0)) == 2.0


def test_there_is_a_condition_for_every_field_that_is_one():
    about_the_value = {"value", "unit", "spread", "interval", "p95", "num_samples", "stopped_by"}
    names = {field.name for field in fields(Measurement)}
    assert set(CONDITIONS) == set(OTHERWISE) == names - about_the_value - {"unsupported"}


@pytest.mark.parametrize("name", CONDITIONS)
def test_what_was_had_otherwise_is_not_compared_unless_that_is_named(name):
    other = replace(MEASURED, **{name: OTHERWISE[name]})
    message = rf"{name} must be the same for two values .*; measure both alike, or name it: across"
    with pytest.raises(ValueError, match=message):
        MEASURED.ratio_to(other)
    with pytest.raises(ValueError, match=message):
        other.ratio_to(MEASURED, across=[other for other in CONDITIONS if other != name])
    assert MEASURED.ratio_to(other, across=[name]) == 1.0


def test_units_are_never_crossed():
    other = replace(MEASURED, unit="mJ")
    with pytest.raises(ValueError, match=r"unit must be the same .* got 'ms' and 'mJ'; comp"):
        MEASURED.ratio_to(other, across=CONDITIONS)
    with pytest.raises(ValueError, match=r"across must name conditions .*got 'unit'; check"):
        MEASURED.ratio_to(other, across=["unit"])


def test_nothing_is_no_base_of_a_ratio():
    with pytest.raises(ValueError, match=r"other must be > 0 for a ratio, got 0 ms; leave it out"):
        MEASURED.ratio_to(replace(MEASURED, value=0))
