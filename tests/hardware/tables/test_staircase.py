from dataclasses import replace

import numpy as np
import pytest

from lightning_cost.hardware.tables.latency_table import ProfiledNetwork, WidthSample
from lightning_cost.hardware.tables.staircase import alignment, staircases
from lightning_cost.runtime.width_layer import WidthLayer
from tests.reference.latency_tables import table


def measured(law, *, noise=0.02, num_samples=120, is_depthwise=False):
    generator = np.random.default_rng(0)
    outs, ins = generator.integers(1, 65, (2, num_samples))
    ins = outs if is_depthwise else ins
    times = law(outs, ins) * np.exp(generator.normal(0, noise, num_samples))
    layer = WidthLayer(name="c", signature="c", is_depthwise=is_depthwise, bytes_per_weight=4.0)
    samples = tuple(
        WidthSample(
            outs=(int(out),),
            ins=(int(into),),
            latency=1.0,
            spread=0.0,
            layers=(float(taken),),
            operators=(1,),
        )
        for out, into, taken in zip(outs, ins, times, strict=True)
    )
    return ProfiledNetwork(name="n", layers=(layer,), reference_ms=1.0, samples=samples)


def up(channels, step):
    return np.ceil(channels / step) * step


@pytest.mark.parametrize(("out_step", "in_step"), [(16, 8), (16, 1), (1, 32), (32, 4), (1, 1)])
@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_the_steps_are_found(out_step, in_step, noise):
    network = measured(
        lambda outs, ins: 0.01 + 1e-4 * up(outs, out_step) * up(ins, in_step), noise=noise
    )
    found = staircases(table(network))["c"]
    assert (found.out_step, found.in_step) == (out_step, in_step)
    assert found.error_ratio <= found.smooth_error_ratio
    assert found.error_ratio < noise + 1e-6


def test_depthwise_steps_are_of_the_channels():
    network = measured(lambda outs, ins: 0.01 + 1e-3 * up(outs, 16), is_depthwise=True)
    found = staircases(table(network))["c"]
    assert (found.out_step, found.in_step) == (16, 1)


def test_a_layer_that_always_takes_the_same_has_no_steps():
    found = staircases(table(measured(lambda outs, ins: 0.3 + 0 * outs, noise=0.0)))["c"]
    assert (found.out_step, found.in_step) == (1, 1)


def test_too_few_samples_tell_nothing():
    network = measured(lambda outs, ins: 0.01 + 1e-4 * outs * ins, num_samples=19)
    assert staircases(table(network)) == {}
    assert staircases(table()) == {}


def test_samples_of_the_same_layer_in_two_networks_count_together():
    network = measured(lambda outs, ins: 0.01 + 1e-4 * up(outs, 8) * ins, num_samples=60)
    first = replace(network, samples=network.samples[:15])
    second = replace(network, name="m", samples=network.samples[15:])
    assert staircases(table(first, second)) == staircases(table(network))


def test_samples_whose_time_no_counter_told_are_left_out():
    network = measured(lambda outs, ins: np.where(outs < 32, 0.0, 1e-4 * outs * ins))
    found = staircases(table(network))["c"]
    assert (found.out_step, found.in_step) == (1, 1)


def test_channels_are_aligned_to_the_steps_that_most_time_goes_into():
    long = measured(lambda outs, ins: 0.01 + 1e-4 * up(outs, 16) * ins, noise=0.0)
    short = measured(lambda outs, ins: 0.001 + 1e-6 * up(outs, 32) * ins, noise=0.0)
    other = replace(short.layers[0], signature="d")
    assert alignment(table(long, replace(short, name="m", layers=(other,)))) == 16
    assert alignment(table(replace(short, name="m", layers=(other,)))) == 32


def test_a_table_of_few_measurements_aligns_nothing():
    assert alignment(table(measured(lambda outs, ins: 1.0 * outs, num_samples=5))) == 1
