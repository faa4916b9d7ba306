from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from lightning_cost.budget.model import ModelBudget
from lightning_cost.cost.measurement import Measurement, Method
from lightning_cost.cost.resource import Resource
from lightning_cost.hardware.device import Hardware


def cost(**values):
    return {
        Resource(name): Measurement.exact(Resource(name), value) for name, value in values.items()
    }


def test_there_is_a_limit_for_every_resource():
    assert [field.name for field in fields(ModelBudget)] == [name.value for name in Resource]


def test_limits_resolve_units_and_percentages():
    budget = ModelBudget(macs="50%", size_bytes="300 kB", latency_ms=2)
    assert budget.limits(cost(macs=1000)) == {
        Resource.macs: 500.0,
        Resource.size_bytes: 300e3,
        Resource.latency_ms: 2.0,
    }
    assert budget.is_relative
    assert not ModelBudget(macs=5).is_relative


def test_headroom_is_one_minus_cost_over_limit():
    budget = ModelBudget(macs=100, params=10)
    assert budget.headroom(cost(macs=75, params=20), {}) == {
        Resource.macs: 0.25,
        Resource.params: -1.0,
    }


@given(limit=st.floats(1e-3, 1e9), value=st.floats(0, 1e9))
def test_kept_means_not_above_the_limit(limit, value):
    budget = ModelBudget(macs=limit)
    assert budget.is_kept(cost(macs=value), {}) == (value <= limit)


def test_an_empty_budget_is_always_kept():
    assert ModelBudget().is_empty
    assert ModelBudget().is_kept({}, {})
    assert not ModelBudget().needs_hardware


def test_a_percentage_of_an_unknown_dense_cost():
    with pytest.raises(ValueError, match="macs must be an absolute limit where the dense"):
        ModelBudget(macs="50%").limits({})


def test_a_cost_that_was_not_measured():
    with pytest.raises(ValueError, match="cost must hold latency_ms, which is limited, got only m"):
        ModelBudget(latency_ms=2).headroom(cost(macs=1), {})


def test_a_budget_in_latency_without_hardware():
    budget = ModelBudget(latency_ms=2)
    assert budget.needs_hardware
    with pytest.raises(ValueError, match="hardware must be given where latency_ms is limited"):
        budget.require_hardware(None)
    budget.require_hardware(Hardware.local())
    ModelBudget(macs=1).require_hardware(None)


def test_a_budget_in_energy_on_hardware_without_power():
    with pytest.raises(ValueError, match="power_w of hardware 'local' must be known"):
        ModelBudget(energy_mj=1).require_hardware(Hardware.local())


@pytest.mark.parametrize("limit", [0, -2, "0 ms", "2 parsec", float("nan")])
def test_bad_limits_are_refused_at_construction(limit):
    with pytest.raises(ValueError, match="latency_ms must be"):
        ModelBudget(latency_ms=limit)


def test_unknown_resource():
    assert ModelBudget.from_dict({"macs": "50%"}) == ModelBudget(macs="50%")
    with pytest.raises(ValueError, match=r"must limit a known resource .*got 'watts'; check"):
        ModelBudget.from_dict({"watts": 1})


@pytest.mark.parametrize("limit", [2, 2.5, "2 ms", "50%", None])
def test_it_is_a_hydra_schema(limit):
    config = OmegaConf.structured(ModelBudget)
    config.latency_ms = limit
    assert OmegaConf.to_object(config) == ModelBudget(latency_ms=limit)


def latency(value, **conditions):
    measured = Measurement(value=value, unit="ms", method=Method.measured, device="a", **conditions)
    return {Resource.latency_ms: measured}


def test_a_percentage_may_cross_the_runtime_and_nothing_else():
    half = ModelBudget(latency_ms="50%")
    dense = latency(4.0, runtime="onnxruntime", batch_size=1)
    assert half.is_kept(latency(1.0, runtime="openvino", batch_size=1), dense)
    other = latency(1.0, runtime="openvino", batch_size=8)
    with pytest.raises(ValueError, match=r"latency_ms must be an absolute limit .*batch_size must"):
        half.is_kept(other, dense)
    assert ModelBudget(latency_ms=2).is_kept(other, dense)
