"""Estimates that are corrected by what was measured."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.cost.measurement import Method
from lightning_cost.cost.resource import Resource
from lightning_cost.pruning.pricing.prediction import Prediction
from lightning_cost.pruning.target.estimate import CorrectedEstimate, device_estimate

LATENCY, ENERGY = Resource.latency_ms, Resource.energy_mj


def macs(widths):
    return {Resource.macs: widths.astype(float).prod(axis=1)}


class Priced:
    price = staticmethod(macs)


def rows(*values):
    return np.array(values, dtype=np.int64)


def test_one_measurement_corrects_everything_by_its_factor():
    estimate = CorrectedEstimate(lambda widths: {LATENCY: widths[:, 0].astype(float)})
    estimate.learn(rows(10), {LATENCY: 13.0})
    assert estimate(rows([5], [10], [20]))[LATENCY] == pytest.approx([6.5, 13, 26])


@given(st.floats(0.2, 2), st.floats(0.1, 10))
def test_two_measurements_make_a_power_law(power, scale):
    estimate = CorrectedEstimate(lambda widths: {LATENCY: widths[:, 0].astype(float)})
    for width in (8, 512):
        estimate.learn(rows(width), {LATENCY: scale * width**power})
    expected = [scale * width**power for width in (8, 64, 512)]
    assert estimate(rows([8], [64], [512]))[LATENCY] == pytest.approx(expected)


def test_networks_that_look_alike_are_averaged():
    estimate = CorrectedEstimate(lambda widths: {LATENCY: widths.sum(axis=1).astype(float)})
    estimate.learn(rows(4, 6), {LATENCY: 5.0})
    estimate.learn(rows(6, 4), {LATENCY: 20.0})
    assert estimate(rows([5, 5]))[LATENCY] == pytest.approx([10.0])


def test_nothing_known_of_a_device_is_proportional_to_macs():
    estimate = device_estimate(None, Priced, rows([4, 4]), dense={LATENCY: 8.0, ENERGY: 2.0})
    found = estimate(rows([4, 4], [4, 2], [1, 1]))
    assert found[LATENCY] == pytest.approx([8, 4, 0.5])
    assert found[ENERGY] == pytest.approx([2, 1, 0.125])


def test_what_a_table_does_not_predict_follows_its_latency():
    class Table:
        def predict(self, widths):
            values = 1 + widths[:, 0].astype(float)
            return {LATENCY: Prediction(values=values, method=Method.estimated, model="table")}

    estimate = device_estimate(Table(), Priced, rows([9, 1]), dense={LATENCY: 7.0, ENERGY: 5.0})
    found = estimate(rows([4, 1]))
    assert found[LATENCY] == pytest.approx([5])
    assert found[ENERGY] == pytest.approx([2.5])
