from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from lightning_cost.hardware.tables.predictor import LatencyPredictor, PredictionError
from lightning_cost.runtime.width_layer import WidthLayer
from tests.reference.latency_tables import LAYERS, channels, latency_ms, network, table


@cache
def predictor():
    return LatencyPredictor.from_table(table(network(120, noise=0.02)), LAYERS)


def test_predictions_come_with_their_held_out_error():
    outs, ins = channels(200, seed=1)
    found = predictor().predict(outs, ins)
    assert found.error == predictor().error
    fresh = PredictionError.between(found.latency_ms, latency_ms(outs, ins))
    assert fresh.median_ratio < 0.03
    assert fresh.rank_correlation > 0.99
    assert found.error.num_networks == 120
    assert fresh.median_ratio / 3 < found.error.median_ratio < 0.05


def test_the_error_of_noise_is_large():
    """In the sample a fit of so many coefficients explains much of it, held out nothing."""

    def noise(outs, ins):
        return np.exp(np.random.default_rng(5).normal(0, 0.5, len(outs)))

    measured = network(60, latency=noise)
    measured = replace(
        measured,
        samples=tuple(
            replace(each, layers=tuple(share * each.latency for share in (0.5, 0.3, 0.2)))
            for each in measured.samples
        ),
    )
    error = LatencyPredictor.from_table(table(measured), LAYERS).error
    assert error.median_ratio > 0.25
    assert abs(error.rank_correlation) < 0.4


def test_the_error_by_hand():
    predicted, measured = np.array([1.1, 2.0, 2.7, 4.0]), np.array([1.0, 2.0, 3.0, 4.0])
    error = PredictionError.between(predicted, measured)
    assert error.median_ratio == pytest.approx(0.05)
    assert error.p90_ratio == pytest.approx(0.1)
    assert (error.rank_correlation, error.num_networks) == (1.0, 4)
    assert str(error) == (
        "off by 5.0% in the median and 10.0% in nine of ten of 4 networks held out, "
        "rank correlation 1.000"
    )


def test_a_bias_from_whole_networks_is_corrected():
    outs, ins = channels(5, seed=1)
    plain = predictor().predict(outs, ins).latency_ms
    corrected = predictor().corrected(outs, ins, plain * np.array([1.3, 1.2, 1.2, 1.2, 9.0]))
    assert corrected.bias == pytest.approx(1.2)
    assert corrected.predict(outs, ins).latency_ms == pytest.approx(1.2 * plain)
    again = corrected.corrected(outs, ins, plain)
    assert again.bias == pytest.approx(1.0)
    assert predictor().bias == 1.0


@pytest.mark.parametrize("measured_ms", [[], [0.0], [-1.0], [float("nan")]])
def test_a_correction_by_what_is_no_time_is_refused(measured_ms):
    outs, ins = channels(len(measured_ms))
    with pytest.raises(ValueError, match="measured_ms must be one or more times > 0, got"):
        predictor().corrected(outs, ins, np.array(measured_ms))


def test_too_few_networks_are_refused():
    with pytest.raises(ValueError, match=r"must hold 20 networks or more .* got 19; go on with"):
        LatencyPredictor.from_table(table(network(19)), LAYERS)
    assert LatencyPredictor.from_table(table(network(20)), LAYERS).error.num_networks == 20


def test_a_layer_that_the_table_lacks_is_refused_by_name():
    other = WidthLayer(name="up", signature="ConvT", is_depthwise=False, bytes_per_weight=4.0)
    with pytest.raises(ValueError, match=r"hold every layer of the network, got none of: up \(Con"):
        LatencyPredictor.from_table(table(network(30)), [*LAYERS, other])


def other_architecture(num_networks):
    """One that shares two layers, its third is its own."""
    own = replace(LAYERS[2], signature="Conv 5x5")
    return network(num_networks, name="other", layers=(*LAYERS[:2], own), seed=9)


def test_each_layer_needs_enough_networks():
    with pytest.raises(ValueError, match="with each of these layers, got 12; go on"):
        LatencyPredictor.from_table(
            table(network(60), other_architecture(12)), other_architecture(1).layers
        )


@pytest.mark.parametrize("num_begun", [0, 1, 3])
def test_an_architecture_that_was_only_begun_leaves_others_as_they_were(num_begun):
    both = table(network(40), other_architecture(num_begun))
    found = LatencyPredictor.from_table(both, LAYERS)
    alone = LatencyPredictor.from_table(table(network(40)), LAYERS)
    assert found.error == alone.error


def test_architectures_that_share_layers_help_each_other():
    both = table(network(40), other_architecture(40))
    found = LatencyPredictor.from_table(both, LAYERS)
    assert found.error.num_networks == 40
