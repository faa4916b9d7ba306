import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lightning_cost.cost.macs import count_macs
from lightning_cost.hardware.layers import Layer, layers_of
from lightning_cost.zoo.resnet import resnet8


def layers(network, example):
    found, unsupported = layers_of(network.eval(), example)
    assert unsupported == ()
    return found


def work_of(network, example):
    return {layer.name: (layer.macs, layer.num_bytes) for layer in layers(network, example)}


class Int8Linear(nn.Module):
    """Holds ``values`` as 8-bit weights."""

    def __init__(self, values):
        super().__init__()
        self.register_buffer("weight", torch.as_tensor(values, dtype=torch.int8))

    def forward(self, inputs):
        return inputs @ self.weight.float()


def test_a_convolution_has_a_closed_form():
    network = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.MaxPool2d(2))
    # 2 samples, 9x9 to 4x4 to 2x2; float32
    conv, pool = layers(network, torch.zeros(2, 3, 9, 9))
    assert conv == Layer(
        name="0",
        kind="conv",
        macs=2 * 8 * 16 * 27,
        in_channels=3,
        out_channels=8,
        kernel=(3, 3),
        stride=(2, 2),
        in_positions=81,
        out_positions=16,
        weight_bytes=4 * 8 * 27,
        bias_bytes=4 * 8,
        input_bytes=4 * 2 * 3 * 81,
        output_bytes=4 * 2 * 8 * 16,
    )
    assert conv.num_bytes == 4 * (8 * 27 + 8 + 2 * (3 * 81 + 8 * 16))
    assert (pool.name, pool.kind, pool.macs) == ("2", "other", 0)
    assert pool.num_bytes == 4 * 2 * (8 * 16 + 8 * 4)
    assert (pool.in_channels, pool.out_channels, pool.out_positions) == (8, 8, 4)


def test_a_linear_layer_on_a_sequence():
    (linear,) = layers(nn.Linear(3, 5), torch.zeros(2, 7, 3))
    assert (linear.kind, linear.macs, linear.out_positions) == ("linear", 2 * 7 * 15, 7)
    assert (linear.in_channels, linear.out_channels) == (3, 5)


def test_a_transposed_convolution():
    (layer,) = layers(nn.ConvTranspose2d(4, 6, 2, stride=2), torch.zeros(1, 4, 3, 3))
    assert (layer.kind, layer.in_positions, layer.out_positions) == ("conv_transposed", 9, 36)
    assert layer.macs == 9 * 4 * 6 * 4


def test_a_module_called_twice_works_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, inputs):
            return self.linear(self.linear(inputs))

    (layer,) = layers(Twice(), torch.zeros(1, 4))
    assert (layer.macs, layer.num_calls) == (2 * 16, 2)
    assert layer.num_bytes == 4 * (2 * 8 + 20)


def test_calls_with_different_shapes_are_different_layers():
    class Pyramid(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Conv2d(2, 3, 1)

        def forward(self, inputs):
            return self.head(inputs).mean() + self.head(inputs[..., :2, :2]).mean()

    found = layers(Pyramid(), torch.zeros(2, 2, 4, 4))
    assert [(layer.name, layer.out_positions, layer.macs) for layer in found] == [
        ("head", 16, 2 * 16 * 6),
        ("head", 4, 2 * 4 * 6),
    ]


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
    (layer,) = layers(network, torch.zeros(1, 4))
    assert (layer.name, layer.macs, layer.is_int8) == ("0", 16, True)


def test_int8_weights_move_a_byte_for_each_element():
    (layer,) = layers(Int8Linear(torch.full((4, 4), 77)), torch.zeros(1, 4))
    assert (layer.is_int8, layer.weight_bits, layer.activation_bits) == (True, 8, 8)
    assert (layer.macs, layer.num_bytes) == (16, 16 + 8)


@pytest.mark.parametrize(
    ("values", "num_shifts"),
    [([[64, -1], [0, 8]], 1), ([[64, 65], [0, -48]], 2), ([[77, 1], [2, 4]], 0)],
)
def test_powers_of_two_are_found_in_the_values(values, num_shifts):
    (layer,) = layers(Int8Linear(values), torch.zeros(1, 2))
    assert (layer.num_shifts, layer.is_shift_add) == (num_shifts, num_shifts > 0)


def test_half_precision_has_half_the_bytes():
    (layer,) = layers(nn.Linear(4, 4).bfloat16(), torch.zeros(1, 4, dtype=torch.bfloat16))
    assert (layer.weight_bits, layer.activation_bits) == (16, 16)
    assert layer.num_bytes == 2 * (4 + 4 + 20)


def test_the_layers_of_a_network_do_all_its_work_also_on_meta():
    example = torch.zeros(3, 3, 16, 16)
    network = resnet8()
    expected = 3 * count_macs(network, example).total
    found = layers(network, example)
    assert sum(layer.macs for layer in found) == expected
    on_meta, _ = layers_of(network.to("meta"), example.to("meta"))
    assert on_meta == found


@st.composite
def convolutions(draw):
    """A kind of layer, as a function of its widths, and its spatial size."""
    kernel, stride = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    kind = draw(st.sampled_from(["dense", "depthwise", "transposed", "grouped", "linear"]))

    def build(in_channels, out_channels):
        if kind == "linear":
            return nn.Linear(in_channels, out_channels), torch.zeros(2, 6, in_channels)
        example = torch.zeros(2, in_channels, 6, 6)
        if kind == "depthwise":
            options = {"groups": in_channels}
            return nn.Conv2d(in_channels, in_channels, kernel, stride, **options), example
        layer = nn.ConvTranspose2d if kind == "transposed" else nn.Conv2d
        groups = 2 if kind == "grouped" else 1
        return layer(in_channels, out_channels, kernel, stride, groups=groups), example

    return build


@settings(max_examples=40, deadline=None)
@given(
    build=convolutions(),
    # a grouped convolution of two channels would be depthwise
    widths=st.tuples(*[st.integers(2, 6).map(lambda half: 2 * half)] * 4),
)
def test_a_layer_at_another_width_is_the_layer_built_at_that_width(build, widths):
    (narrow,) = layers(*build(*widths[:2]))
    (wide,) = layers(*build(*widths[2:]))
    scaled = narrow.with_channels(wide.in_channels, wide.out_channels)
    for name in Layer.__slots__:
        found, expected = getattr(scaled, name), getattr(wide, name)
        assert found == (pytest.approx(expected) if isinstance(expected, float) else expected)


def test_many_widths_at_once():
    (layer,) = layers(nn.Conv2d(4, 8, 3), torch.zeros(1, 4, 8, 8))
    into, out = np.array([1.0, 2.0, 4.0]), np.array([8.0, 4.0, 8.0])
    scaled = layer.with_channels(into, out)
    for index in range(3):
        one = layer.with_channels(into[index], out[index])
        for name in ("macs", "weight_bytes", "bias_bytes", "input_bytes", "output_bytes"):
            wanted = np.broadcast_to(getattr(scaled, name), 3)[index]
            assert getattr(one, name) == pytest.approx(wanted)


def test_a_depthwise_layer_follows_either_width():
    (layer,) = layers(nn.Conv2d(8, 8, 3, groups=8), torch.zeros(1, 8, 8, 8))
    half = layer.with_channels(out_channels=4)
    assert half == layer.with_channels(in_channels=4) == layer.with_channels(4, 4)
    assert (half.macs, half.groups, half.in_channels) == (layer.macs / 2, 4, 4)


def test_it_leaves_no_hook_behind():
    network = nn.Sequential(nn.Linear(2, 2))
    network.train()
    layers_of(network, torch.zeros(1, 2))
    assert network.training
    assert not any(module._forward_hooks for module in network.modules())
