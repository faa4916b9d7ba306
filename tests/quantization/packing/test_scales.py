import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.quantization.packing.scales import (
    bias_bits,
    decode_bias,
    decode_scale,
    encode_bias,
    encode_scale,
    num_bias_bytes,
    num_scale_bytes,
    scale_form,
)

floats = st.floats(width=32, allow_nan=False)
powers = st.one_of(st.just(0.0), st.integers(-126, 127).map(lambda exponent: 2.0**exponent))


@given(st.lists(floats, max_size=6) | st.lists(powers, max_size=6))
def test_scales_to_the_last_bit(values):
    scale = torch.tensor(values, dtype=torch.float32)
    encoded = encode_scale(scale)
    assert len(encoded) == num_scale_bytes(scale)
    found = decode_scale(lambda count: encoded[:count], scale_form(scale), len(values))
    assert found.numpy().tobytes() == scale.numpy().tobytes()


@given(st.lists(powers, max_size=6))
def test_powers_of_two_take_a_byte(values):
    assert num_scale_bytes(torch.tensor(values)) == len(values)


@pytest.mark.parametrize("scale", [3.0, -2.0, 2.0**-127, float("nan"), -0.0])
def test_what_is_no_power_of_two_takes_four(scale):
    assert num_scale_bytes(torch.tensor([scale, 1.0])) == 8


@given(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=6))
def test_biases(values):
    bias = torch.tensor(values, dtype=torch.int32)
    bits = bias_bits(bias)
    largest = max((value if value >= 0 else -value - 1 for value in values), default=0)
    assert bits == max(2, largest.bit_length() + 1)
    encoded = encode_bias(bias)
    assert len(encoded) == num_bias_bytes(bias)
    found = decode_bias(lambda count: encoded[:count], bits, len(values))
    assert found.dtype is torch.int32
    assert np.array_equal(found, bias)


def test_unknown_forms():
    with pytest.raises(ValueError, match="scales in a form 'roman'"):
        decode_scale(bytes, "roman", 1)
    with pytest.raises(ValueError, match="biases of 40 bits"):
        decode_bias(bytes, 40, 1)
