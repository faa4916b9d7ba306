from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lightning_cost.hardware.tables.latency_fit import LatencyFit, Observations
from lightning_cost.hardware.tables.width_features import footprint_features, layer_features
from tests.reference.latency_tables import LAYERS, channels, latency_ms, network

widths = st.integers(1, 96)


@cache
def fitted(noise=0.0):
    return LatencyFit.of([network(200, noise=noise).observations()])


def test_a_law_in_closed_form_is_found_again():
    outs, ins = channels(300, seed=1)
    ratios = fitted().predict_ms(LAYERS, outs, ins) / latency_ms(outs, ins)
    assert np.median(np.abs(ratios - 1)) < 0.01
    assert np.quantile(np.abs(ratios - 1), 0.9) < 0.02


def test_noise_averages_out():
    outs, ins = channels(300, seed=1)
    ratios = fitted(noise=0.03).predict_ms(LAYERS, outs, ins) / latency_ms(outs, ins)
    assert np.median(np.abs(ratios - 1)) < 0.03


def test_what_reading_the_clock_adds_to_each_operator_is_taken_out():
    observed = network(200).observations()
    slowed = replace(observed, layer_ms=observed.layer_ms + 0.004 * observed.num_operators)
    outs, ins = channels(300, seed=1)
    ratios = LatencyFit.of([slowed]).predict_ms(LAYERS, outs, ins) / latency_ms(outs, ins)
    assert np.median(np.abs(ratios - 1)) < 0.015


def test_two_architectures_that_share_layers():
    whole = network(60).observations()
    part = Observations(
        layers=LAYERS[:2],
        outs=whole.outs[:, :2],
        ins=whole.ins[:, :2],
        layer_ms=whole.layer_ms[:, :2],
        num_operators=whole.num_operators[:, :2],
        latency_ms=0.02 + 0.9 * whole.layer_ms[:, :2].sum(axis=1),
    )
    fit = LatencyFit.of([whole, part])
    outs, ins = channels(100, seed=1)
    ratios = fit.predict_ms(LAYERS, outs, ins) / latency_ms(outs, ins)
    assert np.median(np.abs(ratios - 1)) < 0.03


@given(rows=st.lists(st.tuples(widths, widths, widths), min_size=1, max_size=20))
@settings(max_examples=20)
def test_predictions_are_positive_and_alike_alone_or_together(rows):
    first, middle, last = np.array(rows, dtype=float).T
    outs, ins = np.stack([middle, middle, last], 1), np.stack([first, middle, middle], 1)
    together = fitted(noise=0.03).predict_ms(LAYERS, outs, ins)
    assert (together > 0).all()
    alone = [
        fitted(noise=0.03).predict_ms(LAYERS, outs[[row]], ins[[row]])[0]
        for row in range(len(rows))
    ]
    np.testing.assert_allclose(together, alone, rtol=1e-9)


def monotone(fit):
    """The fit without what is no function that grows: remainders, and what is new in a pass."""
    ones = np.ones(1)
    by_signature = {}
    for layer in LAYERS:
        options = {"is_depthwise": layer.is_depthwise}
        grows = is_growing(lambda out, into, o=options: layer_features(out, into, ones, **o))
        by_signature[layer.signature] = fit.by_signature[layer.signature] * grows
    grows = is_growing(
        lambda out, into: footprint_features(LAYERS, *(np.tile(x[:, None], 3) for x in (out, into)))
    )
    return replace(fit, by_signature=by_signature, footprint=fit.footprint * grows)


def is_growing(features):
    """Which features fall nowhere, as one side has one channel more."""
    sides = [(float(a), float(b)) for a in (1, 7, 8, 31, 63, 96) for b in range(1, 161)]
    pairs = sides + [(b, a) for a, b in sides]
    grows = True
    for out, into in pairs:
        here = features(np.array([out]), np.array([into]))[0]
        for more in ((out + 1, into), (out, into + 1)):
            there = features(np.array([more[0]]), np.array([more[1]]))[0]
            grows = grows & (there >= here)
    return grows


MONOTONE = cache(lambda: monotone(fitted(noise=0.03)))


@given(rows=st.tuples(widths, widths, widths), axis=st.integers(0, 2), more=st.integers(1, 64))
@example(rows=(1, 1, 65), axis=2, more=63)
@settings(max_examples=60)
def test_without_remainders_more_channels_never_take_less(rows, axis, more):
    wider = np.array(rows, dtype=float)
    wider[axis] += more
    predicted = []
    for first, middle, last in (rows, wider):
        outs = np.array([[middle, middle, last]], dtype=float)
        ins = np.array([[first, middle, middle]], dtype=float)
        predicted.append(MONOTONE().predict_ms(LAYERS, outs, ins)[0])
    assert predicted[1] >= predicted[0] * (1 - 1e-9)


def test_where_the_device_is_not_monotone_the_fit_is_not():
    """A remainder may cost more than the next whole step: measurements show it, and so the fit."""

    def with_remainders(outs, ins):
        return latency_ms(outs, ins) * np.where(outs[:, 0] % 16 == 0, 1.0, 1.5)

    observed = network(300).observations()
    aligned = observed.outs[:, 0] % 16 == 0
    slower = np.where(aligned, 1.0, 1.5)
    observed = replace(
        observed,
        layer_ms=observed.layer_ms * slower[:, None],
        latency_ms=with_remainders(observed.outs, observed.ins),
    )
    fit = LatencyFit.of([observed])
    outs = np.array([[31.0, 31, 40], [32, 32, 40]])
    ins = np.array([[24.0, 31, 31], [24, 32, 32]])
    narrow, wide = fit.predict_ms(LAYERS, outs, ins)
    assert narrow > 1.2 * wide


def test_a_layer_whose_time_a_counter_does_not_tell():
    observed = network(60).observations()
    observed.layer_ms[:, 2] = 0
    predicted = LatencyFit.of([observed]).predict_ms(LAYERS, *channels(50, seed=1))
    assert np.isfinite(predicted).all()
    assert (predicted > 0).all()


def test_no_networks_at_all_to_predict():
    assert fitted().predict_ms(LAYERS, np.zeros((0, 3)), np.zeros((0, 3))).shape == (0,)


def test_some_of_the_networks():
    observed = network(10).observations()
    some = observed.at([7, 2])
    assert len(some) == 2
    assert some.outs.tolist() == observed.outs[[7, 2]].tolist()
    assert some.latency_ms.tolist() == pytest.approx(observed.latency_ms[[7, 2]].tolist())


def test_the_clock_is_told_from_the_work_where_the_number_of_operators_varies():
    """Runtimes add changes of layout at some widths; each is one more reading of the clock."""
    plain = network(160).observations()
    extra = np.random.default_rng(5).integers(0, 12, plain.layer_ms.shape)
    seen = replace(
        plain,
        num_operators=plain.num_operators + extra,
        layer_ms=plain.layer_ms + 0.01 * (plain.num_operators + extra),
    )
    known, unseen = seen.at(range(120)), seen.at(range(120, 160))
    predicted = LatencyFit.of([known]).predict_ms(LAYERS, unseen.outs, unseen.ins)
    assert np.quantile(np.abs(predicted / unseen.latency_ms - 1), 0.9) < 0.06
