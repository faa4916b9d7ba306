import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lightning_cost.hardware.roofline import LayerWork, Roofline, layer_work


def work_of(network, example):
    work, unsupported = layer_work(network.eval(), example)
    assert unsupported == ()
    return {layer.name: (layer.macs, layer.num_bytes) for layer in work}


def test_a_convolution_has_a_closed_form():
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2))
    # 2 samples, 6x6 to 4x4 to 2x2; float32
    assert work_of(network, torch.zeros(2, 3, 6, 6)) == {
        "0": (2 * 8 * 16 * 27, 4 * (8 * 27 + 8 + 2 * (3 * 36 + 8 * 16))),
        "2": (0, 4 * 2 * (8 * 16 + 8 * 4)),
    }


def test_a_module_called_twice_works_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, inputs):
            return self.linear(self.linear(inputs))

    macs, num_bytes = work_of(Twice(), torch.zeros(1, 4))["linear"]
    assert macs == 2 * 16
    assert num_bytes == 4 * (2 * 8 + 20)


def test_a_matrix_product_in_a_container_is_its_own_work():
    class Product(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, inputs):
            hidden = self.linear(inputs)
            return hidden @ hidden.T

    work = work_of(Product(), torch.zeros(1, 4))
    assert work[""] == (4, 0)
    assert work["linear"][0] == 16


def test_a_parametrized_layer_is_one_layer():
    class AsInt8(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("values", torch.ones(4, 4, dtype=torch.int8))

        def forward(self, weight):
            return self.values.float()

    network = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU())
    nn.utils.parametrize.register_parametrization(network[0], "weight", AsInt8())
    work, _ = layer_work(network, torch.zeros(1, 4))
    (layer,) = work
    assert (layer.name, layer.macs, layer.is_int8) == ("0", 16, True)


def test_int8_weights_use_the_int8_peak():
    class Int8Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("weight", torch.ones(4, 4, dtype=torch.int8))

        def forward(self, inputs):
            return inputs @ self.weight.float()

    work, _ = layer_work(Int8Linear(), torch.zeros(1, 4))
    (layer,) = work
    assert (layer.is_int8, layer.macs, layer.num_bytes) == (True, 16, 16 + 8)
    roof = Roofline(peak_gmacs_fp32=1.0, peak_gmacs_int8=4.0, bandwidth_gb_s=1e9)
    assert roof.latency_ms(work) == pytest.approx(16 / 4e9 * 1e3)
    without_int8 = Roofline(peak_gmacs_fp32=1.0, bandwidth_gb_s=1e9)
    assert without_int8.latency_ms(work) == pytest.approx(16 / 1e9 * 1e3)


@given(
    layers=st.lists(st.tuples(st.floats(0, 1e9), st.floats(0, 1e9)), min_size=1, max_size=5),
    peak=st.floats(0.1, 1e5),
    bandwidth=st.floats(0.1, 1e4),
)
def test_latency_is_the_sum_of_what_bounds_each_layer(layers, peak, bandwidth):
    work = [LayerWork(name="", macs=macs, num_bytes=size) for macs, size in layers]
    roof = Roofline(peak_gmacs_fp32=peak, bandwidth_gb_s=bandwidth)
    expected = sum(
        max(macs / (peak * 1e9), size / (bandwidth * 1e9)) * 1e3 for macs, size in layers
    )
    assert roof.latency_ms(work) == pytest.approx(expected)
    faster = Roofline(peak_gmacs_fp32=2 * peak, bandwidth_gb_s=2 * bandwidth)
    assert faster.latency_ms(work) == pytest.approx(expected / 2)


def test_it_leaves_no_hook_behind():
    network = nn.Sequential(nn.Linear(2, 2))
    network.train()
    layer_work(network, torch.zeros(1, 2))
    assert network.training
    assert not any(module._forward_hooks for module in network.modules())
