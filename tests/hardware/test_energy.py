import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lightning_cost.hardware.catalogue import conf_dir
from lightning_cost.hardware.energy import EnergyModel, known_energy_models
from lightning_cost.hardware.layers import Layer, layers_of
from lightning_cost.network.deploy import deployed_copy
from lightning_cost.zoo.resnet import resnet8, resnet20

EYERISS = EnergyModel.load("eyeriss")
IN_UNITS = replace(EYERISS, joules_per_unit=1e-3)  # results are relative energies


def conv(in_channels=32, out_channels=32, bits=16, **changes):
    """A 3x3 convolution on 8x8 pixels, of ``bits`` bits."""
    layer = Layer(
        name="conv",
        kind="conv",
        macs=64.0 * 9 * in_channels * out_channels,
        in_channels=in_channels,
        out_channels=out_channels,
        kernel=(3, 3),
        stride=(1, 1),
        in_positions=64,
        out_positions=64,
        weight_bytes=9 * in_channels * out_channels * bits / 8,
        input_bytes=64 * in_channels * bits / 8,
        output_bytes=64 * out_channels * bits / 8,
        weight_bits=bits,
        activation_bits=bits,
    )
    return replace(layer, **changes)


def test_a_convolution_has_the_closed_form():
    # 2048 inputs: DRAM once, ceil(32/14) = 3 passes through the buffer, 32 x 9 register reads
    inputs = 2048 * (200 + 3 * 9 * 6 + 32 * 9 * 1)
    # 9216 weights, of which 4096 fit into 8 kB: the rest 6 = ceil(64/12) times from DRAM
    weights = (4096 + 6 * 5120) * 200 + 9216 * 6 * 6 + 9216 * 64 * 1
    outputs = 2048 * 200
    # a multiply-accumulate, and its partial sum read and written
    arithmetic = 64 * 9216 * (1 + 2)
    found = IN_UNITS.layer_mj(conv())
    assert found == pytest.approx(inputs + weights + outputs + arithmetic)


def test_a_linear_layer_has_the_closed_form():
    layer = Layer(
        name="linear",
        kind="linear",
        macs=60_000.0 * 10,
        in_channels=60_000,
        out_channels=20,
        weight_bytes=60_000 * 10 * 2,
        bias_bytes=20 * 2,
        input_bytes=60_000 * 2,
        output_bytes=20 * 2,
        weight_bits=16,
        activation_bits=16,
    )
    # 51,200 inputs fit into 100 kB; the rest comes twice, once for each 14 of 20 outputs
    inputs = (51_200 + 2 * 8_800) * 200 + 60_000 * (2 * 6 + 20 * 1)
    weights = 600_000 * (200 + 6 + 1) + 20 * 200
    assert IN_UNITS.layer_mj(layer) == pytest.approx(inputs + weights + 20 * 200 + 600_000 * 3)


def test_what_only_moves_data_pays_for_dram():
    pool = Layer(name="pool", input_bytes=64.0, output_bytes=16.0)
    assert IN_UNITS.layer_mj(pool) == pytest.approx((64 + 16) / 2 * 200)


def test_halving_the_bits_halves_the_data_and_quarters_the_products():
    wide, narrow = conv(in_channels=4, out_channels=4), conv(in_channels=4, out_channels=4, bits=8)
    data = replace(IN_UNITS, mac=1e-12)
    assert data.layer_mj(narrow) == pytest.approx(data.layer_mj(wide) / 2)
    products = replace(IN_UNITS, add_ratio=1e-12)
    arithmetic = [
        float(products.layer_mj(layer) - data.layer_mj(layer)) for layer in (wide, narrow)
    ]
    assert arithmetic[1] == pytest.approx(arithmetic[0] / 4)


def test_powers_of_two_are_shifted_where_the_hardware_can():
    plain, shifted = conv(bits=8), conv(bits=8, num_shifts=1)
    assert EYERISS.layer_mj(plain) == EYERISS.layer_mj(shifted)
    hardware = replace(IN_UNITS, is_shift_add=True)
    assert hardware.layer_mj(plain) == IN_UNITS.layer_mj(plain)
    saved = 0.94 / 4 + 0.03 - (0.035 + 0.03)
    expected = float(IN_UNITS.layer_mj(plain)) - plain.macs * saved
    assert hardware.layer_mj(shifted) == pytest.approx(expected)
    twice = hardware.layer_mj(conv(bits=8, num_shifts=2))
    assert hardware.layer_mj(shifted) < twice < hardware.layer_mj(plain)


widths = st.integers(1, 300)


@given(
    st.tuples(widths, widths),
    st.tuples(widths, widths),
    st.sampled_from([2, 4, 8, 16, 32]),
    st.booleans(),
)
def test_more_channels_or_bits_never_take_less(one, other, bits, depthwise):
    def layer(into, out, bits):
        if depthwise:
            return replace(conv(1, into, bits), in_channels=into, groups=into)
        return conv(into, out, bits)

    small = [min(pair) for pair in zip(one, other, strict=True)]
    large = [max(pair) for pair in zip(one, other, strict=True)]
    low = EYERISS.layer_mj(layer(*small, bits))
    assert low <= EYERISS.layer_mj(layer(*large, bits)) * (1 + 1e-12)
    assert low < EYERISS.layer_mj(layer(*small, 2 * bits))


def test_many_widths_at_once():
    into, out = np.array([4.0, 8.0, 32.0]), np.array([8.0, 32.0, 16.0])
    found = EYERISS.layer_mj(conv().with_channels(into, out))
    expected = [float(EYERISS.layer_mj(conv(*pair))) for pair in zip(into, out, strict=True)]
    assert found.tolist() == pytest.approx(expected)


def test_a_real_network_adds_up():
    layers, _ = layers_of(resnet8().eval(), torch.zeros(1, 3, 32, 32))
    total = EYERISS.energy_mj(layers)
    assert total == pytest.approx(sum(float(EYERISS.layer_mj(layer)) for layer in layers))
    twice, _ = layers_of(resnet8().eval(), torch.zeros(2, 3, 32, 32))
    assert total < EYERISS.energy_mj(twice) < 2 * total * (1 + 1e-9)


def alexnet_convolutions():
    """AlexNet's convolutions as the Eyeriss chip ran them: 227x227, 16 bit, two of them in groups.

    Chen, Krishna, Emer, Sze, JSSC 2017, table V.
    """
    shapes = [
        (3, 96, 11, 4, 0, 1, 227),
        (96, 256, 5, 1, 2, 2, 27),
        (256, 384, 3, 1, 1, 1, 13),
        (384, 384, 3, 1, 1, 2, 13),
        (384, 256, 3, 1, 1, 2, 13),
    ]
    for into, out, kernel, stride, padding, groups, size in shapes:
        layer = nn.Conv2d(into, out, kernel, stride, padding, groups=groups, bias=False)
        example = torch.empty(1, into, size, size, device="meta")
        yield from layers_of(layer.bfloat16().to("meta"), example.bfloat16())[0]


def test_the_scale_agrees_with_the_power_of_the_eyeriss_chip():
    # 278 mW at 34.7 frames a second, DRAM and sparse inputs' gating not separated
    on_chip = replace(EYERISS, dram=1e-12)
    layers = list(alexnet_convolutions())
    assert sum(layer.macs for layer in layers) == pytest.approx(666e6, rel=0.01)
    ratio = on_chip.energy_mj(layers) / (278 / 34.7)
    assert 0.5 < ratio < 2


def test_known_models_load():
    for name in known_energy_models():
        assert EnergyModel.load(name).name == name


def test_the_hardware_whose_shifts_are_priced_is_named():
    assert "ShiftAddNet" in EYERISS.source


def write(path, **changes):
    lines = (conf_dir() / "energy" / "eyeriss.yaml").read_text().splitlines()
    kept = [line for line in lines if line.partition(":")[0] not in changes]
    path.write_text("\n".join([*kept, *(f"{k}: {v}" for k, v in changes.items() if v is not None)]))
    return path


def test_a_model_of_ones_own(tmp_path):
    path = write(tmp_path / "mine.yaml", name="mine", dram=100)
    assert EnergyModel.load(path, is_shift_add=True).is_shift_add
    assert (EnergyModel.load(path).name, EnergyModel.load(path).dram) == ("mine", 100)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dram": -1}, r"dram of energy model 'eyeriss' must be a number > 0, got -1"),
        ({"dram": ".nan"}, r"dram of energy model 'eyeriss' must be a number > 0, got nan"),
        ({"dram": "200 pJ"}, r"dram of energy model 'eyeriss' must be a number > 0, got '200 pJ'"),
        ({"add_ratio": 2}, r"add_ratio of energy model 'eyeriss' must be at most 1"),
        ({"dram": None}, r"must have the entries of .*with dram missing"),
        ({"sram": 3}, r"must have the entries of .*with sram unknown"),
    ],
)
def test_a_wrong_model(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        EnergyModel.load(write(tmp_path / "mine.yaml", **changes))


def test_an_unknown_model():
    with pytest.raises(ValueError, match=r"energy_model must be one of eyeriss or the path"):
        EnergyModel.load("abacus")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yaml"):
        EnergyModel.load("nowhere.yaml")


def test_there_is_no_energy_without_a_cause():
    assert math.isclose(EYERISS.energy_mj([]), 0)


@pytest.mark.parametrize(
    ("weight_bits", "activation_bits", "num_shifts", "millijoules"),
    [(32, 32, 0, 9.7), (16, 16, 0, 4.3), (8, 8, 0, 1.8), (4, 8, 0, 0.95), (8, 8, 2, 1.7)],
)
def test_the_figures_of_the_card(weight_bits, activation_bits, num_shifts, millijoules):
    example = torch.zeros(1, 1, 28, 28)
    layers, _ = layers_of(deployed_copy(resnet20(width=32, in_channels=1), example), example)
    stored = [
        replace(
            layer,
            weight_bits=weight_bits,
            activation_bits=activation_bits,
            num_shifts=num_shifts,
            weight_bytes=layer.weight_bytes * weight_bits / 32,
            input_bytes=layer.input_bytes * activation_bits / 32,
            output_bytes=layer.output_bytes * activation_bits / 32,
        )
        for layer in layers
    ]
    model = EnergyModel.load("eyeriss", is_shift_add=num_shifts > 0)
    assert model.energy_mj(stored) == pytest.approx(millijoules, rel=0.03)
