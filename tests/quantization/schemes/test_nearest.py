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


def found_by_search(weight, scale, levels):
    """The level past as many midpoints as the magnitude is larger than."""
    ratio = weight / scale.reshape(-1, *[1] * (weight.dim() - 1))
    values = torch.tensor(levels, dtype=torch.float32)
    indices = torch.bucketize(ratio.abs().contiguous(), (values[1:] + values[:-1]) / 2)
    return values.to(torch.int8)[indices] * ratio.sign().to(torch.int8)


@given(levels=LEVELS, seed=SEEDS, exponent=st.integers(-3, 3))
def test_levels_are_those_that_a_search_among_midpoints_finds(levels, seed, exponent):
    halves = torch.arange(-260, 261) / 2
    above, below = (halves.nextafter(torch.tensor(end)) for end in (torch.inf, -torch.inf))
    rare = torch.tensor([0.0, -0.0, 1e-42, -1e-42, 3e38, -3e38, torch.inf, -torch.inf])
    drawn = 60 * normal(200, seed=seed)
    weight = torch.cat([halves, above, below, rare, drawn]).repeat(2, 1)
    scale = torch.tensor([1.0, 2.0**exponent])
    assert torch.equal(
        nearest_levels(weight, scale, levels), found_by_search(weight, scale, levels)
    )


@pytest.mark.parametrize("name", ["int4", "power_of_two", "power_of_two_2", "apot"])
def test_filters_may_lie_channels_last(name):
    levels, weight, scale = get_scheme(name).levels, 60 * normal(5, 4, 3, 3, seed=0), torch.ones(5)
    laid = weight.to(memory_format=torch.channels_last)
    assert torch.equal(nearest_levels(laid, scale, levels), found_by_search(weight, scale, levels))


def test_what_is_not_a_number_does_not_stop_training():
    weight = torch.tensor([[torch.nan, 3.0]])
    assert nearest_levels(weight, torch.ones(1), (0, 1, 2, 4))[0, 1] == 2


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
@pytest.mark.parametrize("name", ["int4", "power_of_two_2"])
def test_a_filter_that_has_shrunk_finds_its_scale_again(name):
    scheme, weight = get_scheme(name), normal(2, 9, seed=0)
    scale = scheme.fit_scale(1e38 * weight)
    for _ in range(5):
        scale = scheme.fit_scale(1e-3 * weight, scale)
    assert (scale < 1).all()
    values, _ = scheme.quantize_weight(1e-3 * weight, scale)
    error = values * scale[:, None] - 1e-3 * weight
    assert error.norm() < 0.5 * (1e-3 * weight).norm()


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
