import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.quantization.schemes.uniform import Int8, LowBit

SHAPES = st.sampled_from([(1, 1), (3, 4), (5, 2, 3), (4, 3, 3, 3), (2, 1, 3, 3, 3)])


@given(shape=SHAPES, seed=st.integers(0, 99), reduced=st.booleans())
def test_int8_agrees_with_torch(shape, seed, reduced):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    limit = 63 if reduced else 127
    values, scale = Int8(reduced_range=reduced).quantize_weight(weight)
    expected_scale = weight.flatten(1).abs().amax(1) / limit
    expected = torch.fake_quantize_per_channel_affine(
        weight, expected_scale, torch.zeros(shape[0], dtype=torch.int32), 0, -limit, limit
    )
    dequantized = values * scale.reshape(-1, *[1] * (weight.dim() - 1))
    assert values.dtype is torch.int8
    assert torch.allclose(dequantized, expected, atol=1e-6)


@given(shape=SHAPES, seed=st.integers(0, 99))
def test_error_is_half_a_step_at_most(shape, seed):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    values, scale = Int8().quantize_weight(weight)
    steps = scale.reshape(-1, *[1] * (weight.dim() - 1))
    assert ((values * steps - weight).abs() <= 0.5001 * steps).all()


def test_filter_of_zeros_stays_zero():
    values, scale = Int8().quantize_weight(torch.zeros(2, 3))
    assert not values.any()
    assert (scale > 0).all()


@given(shape=SHAPES, seed=st.integers(0, 99), bits=st.integers(2, 8))
def test_low_bits_are_the_nearest_of_so_many_levels(shape, seed, bits):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    values, scale = LowBit(bits=bits).quantize_weight(weight)
    limit = 2 ** (bits - 1) - 1
    ratio = weight / scale.reshape(-1, *[1] * (weight.dim() - 1))
    assert values.abs().max() <= limit
    assert ((values - ratio.clamp(-limit, limit)).abs() <= 0.5001).all()


@pytest.mark.parametrize("bits", [1, 9])
def test_bits_out_of_range(bits):
    with pytest.raises(ValueError, match=f"bits must be in 2 to 8, got {bits}; 4 is usual"):
        LowBit(bits=bits)


def test_bits():
    assert Int8().weight_bits == 8
    assert Int8(reduced_range=True).weight_bits == 7
    assert LowBit(bits=3).weight_bits == 3
