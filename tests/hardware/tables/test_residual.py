from dataclasses import replace

import numpy as np
import pytest

from lightning_cost.hardware.tables.latency_fit import LatencyFit, Observations
from lightning_cost.hardware.tables.residual import FEWEST_NETWORKS, LatencyModel
from lightning_cost.runtime.width_layer import WidthLayer

LAYERS = tuple(
    WidthLayer(name=name, signature=name, is_depthwise=False, bytes_per_weight=1.0)
    for name in ("first", "second")
)


def observed(num_networks, *, seed=0, slowed=lambda outs: np.ones(len(outs))):
    """Layers that take their channels' products, in passes that something else slows."""
    generator = np.random.default_rng(seed)
    outs = generator.integers(1, 64, size=(num_networks, 2)).astype(np.float64)
    ins = np.stack([np.full(num_networks, 3.0), outs[:, 0]], axis=1)
    layer_ms = 0.01 + outs * ins * 1e-3
    return Observations(
        layers=LAYERS,
        outs=outs,
        ins=ins,
        layer_ms=layer_ms,
        num_operators=np.ones_like(layer_ms),
        latency_ms=layer_ms.sum(axis=1) * slowed(outs),
    )


def error_of(model, seen):
    predicted = model.predict_ms(seen.layers, seen.outs, seen.ins)
    return np.median(np.abs(predicted / seen.latency_ms - 1))


def small_first(outs):
    """A pass that is a fifth slower where its first layer has few channels."""
    return np.where(outs[:, 0] < 20, 1.2, 1.0)


def test_it_learns_what_no_layer_explains():
    known, unseen = observed(200, slowed=small_first), observed(80, seed=1, slowed=small_first)
    summed, model = LatencyFit.of([known]), LatencyModel.of([known], LAYERS)
    assert error_of(model, unseen) < 0.5 * error_of(summed, unseen)
    assert error_of(model, unseen) < 0.03


def test_where_the_sum_is_right_it_stays():
    model = LatencyModel.of([observed(200)], LAYERS)
    assert error_of(model, observed(80, seed=1)) < 0.02


def test_a_disturbed_measurement_teaches_nothing():
    known = observed(200)
    latency_ms = known.latency_ms.copy()
    latency_ms[::7] *= 4
    model = LatencyModel.of([replace(known, latency_ms=latency_ms)], LAYERS)
    assert error_of(model, observed(80, seed=1)) < 0.05


@pytest.mark.parametrize("num_networks", [20, FEWEST_NETWORKS - 1])
def test_few_networks_leave_the_sum_alone(num_networks):
    known, unseen = observed(num_networks), observed(10, seed=1)
    model = LatencyModel.of([known], LAYERS)
    assert model.trees is None
    predicted = model.predict_ms(LAYERS, unseen.outs, unseen.ins)
    summed = LatencyFit.of([known]).predict_ms(LAYERS, unseen.outs, unseen.ins)
    assert (predicted == summed).all()


def test_another_architecture_of_the_same_layers_gets_the_sum():
    known = observed(60, slowed=small_first)
    other = tuple(replace(layer, name=f"other {layer.name}") for layer in LAYERS)
    model = LatencyModel.of([known], other)
    assert model.trees is None
    unseen = observed(10, seed=1)
    assert (model.predict_ms(other, unseen.outs, unseen.ins) > 0).all()


def test_many_at_once_are_one_by_one():
    model = LatencyModel.of([observed(60, slowed=small_first)], LAYERS)
    unseen = observed(9, seed=1)
    together = model.predict_ms(LAYERS, unseen.outs, unseen.ins)
    alone = [
        model.predict_ms(LAYERS, unseen.outs[row : row + 1], unseen.ins[row : row + 1])[0]
        for row in range(9)
    ]
    assert together == pytest.approx(alone)
    assert len(model.predict_ms(LAYERS, unseen.outs[:0], unseen.ins[:0])) == 0
