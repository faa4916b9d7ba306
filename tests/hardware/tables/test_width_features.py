import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_cost.hardware.tables.width_features import (
    STEPS,
    footprint_factors,
    footprint_features,
    layer_features,
    layer_times,
    novelty,
    overhangs,
    stairs,
    weight_bytes,
)
from lightning_cost.runtime.width_layer import WidthLayer

CONV = WidthLayer(name="a", signature="conv", is_depthwise=False, bytes_per_weight=36.0)
SAME = WidthLayer(name="b", signature="conv", is_depthwise=False, bytes_per_weight=36.0)
FILTER = WidthLayer(name="c", signature="filter", is_depthwise=True, bytes_per_weight=9.0)
LAYERS = (CONV, SAME, FILTER)
channels = st.integers(1, 300)
rows = st.lists(st.tuples(channels, channels, channels), min_size=1, max_size=12)


def test_stairs_by_hand():
    assert STEPS == (1, 4, 8, 16, 32, 64)
    assert stairs(np.array([17.0])).tolist() == [[1, 17, 20, 24, 32, 32, 64]]


def test_overhangs_by_hand():
    largest, remainder = np.split(overhangs(np.array([12.0, 17.0, 64.0, 96.0])), [6], axis=1)
    # the largest of 1, 2, 4, 8, 16, 32 that divides; a multiple of 64 counts for none
    assert largest.argmax(axis=1).tolist() == [2, 0, 0, 5]
    assert largest.sum(axis=1).tolist() == [1, 1, 0, 1]
    # a full step of 4, 8, 16, 32, 64 and a rest
    assert remainder.tolist() == [
        [0, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 1],
    ]


@pytest.mark.parametrize("is_depthwise", [False, True])
@given(rows=rows, seed=st.integers(0, 10))
@settings(max_examples=25)
def test_features_are_not_negative_and_their_sum_has_a_fast_way(is_depthwise, rows, seed):
    outs, ins, is_new = np.array(rows, dtype=float).T
    is_new = is_new % 2
    features = layer_features(outs, ins, is_new, is_depthwise=is_depthwise)
    assert (features >= 0).all()
    assert np.isfinite(features).all()
    coefficients = np.random.default_rng(seed).random(features.shape[1])
    fast = layer_times(coefficients, outs, ins, is_new, is_depthwise=is_depthwise)
    np.testing.assert_allclose(fast, features @ coefficients, rtol=1e-9)


@given(rows=rows, seed=st.integers(0, 10))
@settings(max_examples=25)
def test_footprints_are_shares_and_their_sum_has_a_fast_way(rows, seed):
    outs = np.array(rows, dtype=float)
    ins = outs[:, ::-1]
    features = footprint_features(LAYERS, outs, ins)
    assert ((features >= 0) & (features <= 1)).all()
    assert (features[:, 0] == 1).all()
    coefficients = np.random.default_rng(seed).random(features.shape[1])
    fast = footprint_factors(coefficients, LAYERS, outs, ins)
    np.testing.assert_allclose(fast, features @ coefficients, rtol=1e-9)


def test_a_kernel_is_new_where_no_earlier_layer_had_its_channels():
    outs = np.array([[8.0, 8, 8], [8, 4, 8], [8, 8, 8]])
    ins = np.array([[4.0, 4, 8], [4, 4, 8], [4, 5, 8]])
    # the third layer has another signature
    assert novelty(LAYERS, outs, ins).tolist() == [[1, 0, 1], [1, 1, 1], [1, 1, 1]]


def test_bytes_of_weights():
    outs, ins = np.array([[8.0, 4, 4]]), np.array([[3.0, 8, 4]])
    assert weight_bytes(LAYERS, outs, ins).tolist() == [36 * 24 + 36 * 32 + 9 * 4]


@given(out=channels, into=channels, more=st.integers(0, 50), axis=st.sampled_from([0, 1]))
def test_stairs_and_sizes_never_fall_with_the_channels(out, into, more, axis):
    """Those of a remainder do, as on devices: 17 channels may take longer than 24."""
    narrow = np.array([[out], [into]], dtype=float)
    wide = narrow.copy()
    wide[axis] += more
    grown = np.append(stairs(wide[0]), stairs(wide[1])) - np.append(
        stairs(narrow[0]), stairs(narrow[1])
    )
    assert (grown >= 0).all()
