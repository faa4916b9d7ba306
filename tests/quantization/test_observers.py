import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.quantization.fake_quantizers import ActivationFakeQuantizer
from lightning_cost.quantization.observers import OBSERVERS, affine_grid, range_of

SEEDS = st.integers(0, 99)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def squared_error(x, low, high, num_levels):
    scale, zero_point = affine_grid(low, high, num_levels=num_levels)
    rounded = torch.fake_quantize_per_tensor_affine(x, scale, zero_point, 0, num_levels - 1)
    return float((rounded - x).square().sum())


@pytest.mark.parametrize("observer", ["moving_average", "min_max", "learned"])
def test_extremes(observer):
    x = normal(3, 50)
    low, high = range_of(x, observer, num_levels=256)
    assert (low, high) == (x.min(), x.max())


def test_percentile_leaves_out_one_in_ten_thousand_at_either_end():
    x = torch.linspace(-1, 1, 60_001)
    x[0], x[-1] = -1000, 1000
    low, high = range_of(x, "percentile", num_levels=256)
    assert float(low) == pytest.approx(-1, abs=1e-3)
    assert float(high) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("shape", [(128, 16, 32, 32), (32, 64, 512)])
@pytest.mark.parametrize("observer", ["percentile", "mse"])
def test_a_sample_of_many_is_of_every_column_and_channel(shape, observer):
    x = normal(*shape)
    x[..., 0] *= 0.1  # as at a border of zeros
    x[:, 3] *= 4
    _, high = range_of(x, observer, num_levels=256)
    drawn = torch.randperm(x.numel(), generator=torch.Generator().manual_seed(1))[:60_000]
    _, expected = range_of(x.flatten()[drawn], observer, num_levels=256)
    assert float(high) == pytest.approx(float(expected), rel=0.15)


@given(seed=SEEDS)
def test_mse_is_never_worse_than_the_extremes_and_near_the_best(seed):
    x = normal(2000, seed=seed)
    low, high = range_of(x, "mse", num_levels=16)
    found = squared_error(x, low, high, 16)
    errors = [
        squared_error(x, x.min() * share, x.max() * share, 16)
        for share in torch.linspace(0.3, 1, 100)
    ]
    assert found <= errors[-1]
    assert found <= 1.1 * min(errors)


@pytest.mark.parametrize("observer", OBSERVERS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_shows(observer, value):
    quantizer = ActivationFakeQuantizer(observer).train()
    quantizer.is_calibrating = True
    quantizer(torch.tensor([0.0, 1.0]))
    quantizer(torch.tensor([1.0, value]))
    assert not quantizer.max_value.isfinite()


@pytest.mark.parametrize("observer", OBSERVERS)
@pytest.mark.parametrize("x", [torch.zeros(5), torch.full((5,), 3.0), torch.full((5,), -2.0)])
def test_constant_activations(observer, x):
    quantizer = ActivationFakeQuantizer(observer).train()
    quantizer.observe(x)
    rounded = quantizer.eval()(x)
    assert torch.allclose(rounded, x, rtol=0.35 if observer == "mse" else 1e-2)
    assert quantizer(torch.zeros(1)) == 0


def test_min_max_widens_only():
    quantizer = ActivationFakeQuantizer("min_max").train()
    for extreme in (1.0, 3.0, 2.0):
        quantizer(torch.tensor([-extreme, extreme]))
    assert (quantizer.min_value, quantizer.max_value) == (-3, 3)


def test_learned_range_stands_still_and_its_factor_has_the_gradient_of_torch():
    torch.manual_seed(0)
    x = torch.randn(200)
    quantizer = ActivationFakeQuantizer("learned").train()
    quantizer.observe(0.5 * x)  # so that some values are clipped
    before = quantizer.max_value.clone()
    with torch.no_grad():
        quantizer.factor.fill_(1.2)
    ours, gradient = x.clone().requires_grad_(), torch.randn(200)
    quantizer(ours).backward(gradient)
    assert torch.equal(quantizer.max_value, before)

    scale, zero_point = quantizer.grid()
    expected, learned = x.clone().requires_grad_(), scale.clone().reshape(1).requires_grad_()
    torch._fake_quantize_learnable_per_tensor_affine(
        expected, learned, zero_point.float().reshape(1), 0, 255, (200 * 255) ** -0.5
    ).backward(gradient)
    assert torch.equal(ours.grad, expected.grad)
    # the scale is the factor times what was observed
    assert torch.allclose(quantizer.factor.grad, learned.grad * scale / 1.2, rtol=1e-4)


def test_unknown_observer():
    with pytest.raises(ValueError, match=r"observer must be one of 'moving_average', .*, got 'x'"):
        ActivationFakeQuantizer("x")
