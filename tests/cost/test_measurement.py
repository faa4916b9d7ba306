import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.cost.measurement import Measurement, Method, cost_from_dict, cost_to_dict
from lightning_cost.cost.resource import Resource

_text = st.none() | st.text(max_size=5)
_number = st.none() | st.integers(1, 64)
measurements = st.builds(
    Measurement,
    value=st.floats(allow_nan=False),
    unit=st.text(max_size=3),
    method=st.sampled_from(Method),
    spread=st.none() | st.floats(0, 1e9),
    device=_text,
    runtime=_text,
    num_threads=_number,
    batch_size=_number,
    dtype=_text,
    unsupported=st.lists(st.text(max_size=5), max_size=2).map(tuple),
)


@given(cost=st.dictionaries(st.sampled_from(Resource), measurements))
def test_a_cost_survives_json(cost):
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
