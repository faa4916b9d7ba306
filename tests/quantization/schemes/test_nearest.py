import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.quantization.schemes.nearest import fitted_scale, nearest_levels
from lightning_cost.quantization.schemes.registry import get_scheme

LEVELS = st.sets(st.integers(1, 127), min_size=1).map(lambda levels: (0, *sorted(levels)))
SEEDS = st.integers(0, 99)


def normal(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def error_of(weight, scale, levels):
    rounded = nearest_levels(weight, scale, levels) * scale[:, None]
    return (rounded - weight).square().sum(1)


@given(levels=LEVELS, seed=SEEDS)
def test_no_level_is_nearer(levels, seed):
    weight, scale = 60 * normal(3, 5, seed=seed), torch.tensor([0.5, 1.0, 2.0])
    values = nearest_levels(weight, scale, levels)
    signed = torch.tensor([*levels, *(-level for level in levels)])
    ratio = weight / scale[:, None]
    distances = (ratio[..., None] - signed).abs()
    assert torch.allclose((values - ratio).abs(), distances.amin(-1))
    assert values.dtype is torch.int8
    assert set(values.abs().flatten().tolist()) <= set(levels)


@given(levels=LEVELS, seed=SEEDS)
def test_negative_weights_are_rounded_as_positive_ones(levels, seed):
    weight, scale = 60 * normal(3, 5, seed=seed), torch.ones(3)
    assert torch.equal(
        nearest_levels(-weight, scale, levels), -nearest_levels(weight, scale, levels)
    )


@pytest.mark.parametrize("name", ["int4", "int2", "power_of_two", "power_of_two_2", "apot"])
def test_fitted_scale_is_as_good_as_a_fine_search(name):
    levels, weight = get_scheme(name).levels, normal(4, 100, seed=0)
    found = error_of(weight, fitted_scale(weight, levels), levels)
    largest = weight.abs().amax(1) / levels[-1]
    grid = torch.stack([error_of(weight, largest * share, levels) for share in SHARES])
    assert (found <= 1.05 * grid.amin(0)).all()


SHARES = torch.linspace(0.2, 2, 500)


@given(levels=LEVELS, seed=SEEDS)
def test_refining_never_makes_it_worse(levels, seed):
    weight = normal(3, 20, seed=seed)
    scale = weight.abs().amax(1) / levels[-1]
    refined = fitted_scale(weight, levels, scale)
    rounds_to_something = nearest_levels(weight, scale, levels).any(1)
    worse = error_of(weight, refined, levels) > 1.0001 * error_of(weight, scale, levels)
    assert not (worse & rounds_to_something).any()


@given(seed=SEEDS, exponent=st.integers(-10, 60))
def test_scale_follows_the_unit_of_the_weight(seed, exponent):
    weight, levels = normal(3, 20, seed=seed), get_scheme("int4").levels
    in_other_unit = fitted_scale(weight * 2.0**exponent, levels)
    assert torch.allclose(in_other_unit, fitted_scale(weight, levels) * 2.0**exponent)


@pytest.mark.parametrize("name", ["int4", "power_of_two", "power_of_two_2", "flightnn", "apot"])
@pytest.mark.parametrize("value", [0.0, 1e-42, 1e-30, 1e30, 3e38])
def test_extreme_filters_stay_finite(name, value):
    scheme, weight = get_scheme(name), torch.full((2, 3), value)
    values, scale = scheme.quantize_weight(weight)
    refined = scheme.fit_scale(weight, scale)
    assert scale.isfinite().all()
    assert (scale > 0).all()
    assert refined.isfinite().all()
    if value > 1e-20:
        assert torch.allclose(values * scale[:, None], weight, rtol=1e-3)


# decibels of signal to noise on independent normal weights, best scale for a long filter
@pytest.mark.parametrize(
    ("name", "decibels"),
    [("power_of_two", 14.2), ("int4", 18.8), ("apot", 19.1), ("power_of_two_2", 28.6)],
)
def test_noise_on_normal_weights(name, decibels):
    weight = normal(1, 200_000, seed=0)
    scheme = get_scheme(name)
    values, scale = scheme.quantize_weight(weight)
    noise = (values * scale[:, None] - weight).square().mean() / weight.square().mean()
    assert float(-10 * noise.log10()) == pytest.approx(decibels, abs=0.15)
