import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.hardware.layers import Layer
from lightning_cost.hardware.roofline import Roofline


def test_int8_weights_use_the_int8_peak():
    layers = [Layer(name="", macs=16.0, weight_bits=8)]
    roof = Roofline(peak_gmacs_fp32=1.0, peak_gmacs_int8=4.0, bandwidth_gb_s=1e9)
    assert roof.latency_ms(layers) == pytest.approx(16 / 4e9 * 1e3)
    without_int8 = Roofline(peak_gmacs_fp32=1.0, bandwidth_gb_s=1e9)
    assert without_int8.latency_ms(layers) == pytest.approx(16 / 1e9 * 1e3)


@given(
    layers=st.lists(st.tuples(st.floats(0, 1e9), st.floats(0, 1e9)), min_size=1, max_size=5),
    peak=st.floats(0.1, 1e5),
    bandwidth=st.floats(0.1, 1e4),
)
def test_latency_is_the_sum_of_what_bounds_each_layer(layers, peak, bandwidth):
    work = [Layer(name="", macs=macs, weight_bytes=size) for macs, size in layers]
    roof = Roofline(peak_gmacs_fp32=peak, bandwidth_gb_s=bandwidth)
    expected = sum(
        max(macs / (peak * 1e9), size / (bandwidth * 1e9)) * 1e3 for macs, size in layers
    )
    assert roof.latency_ms(work) == pytest.approx(expected)
    faster = Roofline(peak_gmacs_fp32=2 * peak, bandwidth_gb_s=2 * bandwidth)
    assert faster.latency_ms(work) == pytest.approx(expected / 2)


def test_many_widths_at_once():
    layer = Layer(
        name="conv", kind="conv", macs=8e6, in_channels=2, out_channels=4, input_bytes=2e6
    )
    roof = Roofline(peak_gmacs_fp32=1, bandwidth_gb_s=1)
    into = np.array([1.0, 2.0, 4.0])
    found = roof.layer_ms(layer.with_channels(into, np.array([4.0, 4.0, 1.0])))
    assert found.tolist() == [4.0, 8.0, 4.0]  # the last one waits for its input
    assert roof.layer_ms(layer).shape == ()
    assert roof.layer_ms(layer) == 8.0
