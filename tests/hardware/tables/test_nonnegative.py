import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_cost.hardware.tables.nonnegative import fit_nonnegative

seeds = st.integers(0, 1000)


def problem(seed, num_samples=60, num_features=5):
    generator = np.random.default_rng(seed)
    features = generator.random((num_samples, num_features)) * [1, 10, 100, 1e3, 1e4]
    truth = generator.random(num_features) / [1, 10, 100, 1e3, 1e4]
    return features, truth


@given(seed=seeds)
@settings(max_examples=20)
def test_a_sum_of_features_is_found_again(seed):
    features, truth = problem(seed)
    found = fit_nonnegative(features, features @ truth, ridge=0)
    np.testing.assert_allclose(found, truth, rtol=1e-5, atol=1e-9)


@given(seed=seeds)
@settings(max_examples=20)
def test_coefficients_are_never_negative(seed):
    generator = np.random.default_rng(seed)
    found = fit_nonnegative(generator.random((20, 30)), generator.random(20) + 0.01)
    assert (found >= 0).all()
    assert np.isfinite(found).all()


@given(seed=seeds, factor=st.sampled_from([1e-4, 1e-2, 1e2, 1e5]))
@settings(max_examples=20)
def test_units_do_not_matter(seed, factor):
    features, truth = problem(seed)
    values = features @ truth * np.exp(np.random.default_rng(seed).normal(0, 0.1, len(features)))
    found = fit_nonnegative(features, values, ridge=0.1)
    np.testing.assert_allclose(
        fit_nonnegative(features, values * factor, ridge=0.1), found * factor, rtol=1e-5, atol=1e-12
    )


def test_errors_count_by_their_ratio():
    """One sample 10 % over and one 10 % under, a thousand times as large: the middle of both."""
    found = fit_nonnegative(np.array([[1.0], [1000.0]]), np.array([1.1, 900.0]), ridge=0)
    assert found[0] == pytest.approx(0.98, abs=0.02)


def test_a_sample_far_off_moves_the_fit_little():
    features, truth = problem(3)
    values = features @ truth
    values[7] *= 10
    found = fit_nonnegative(features, values, ridge=0)
    np.testing.assert_allclose(features @ found, features @ truth, rtol=0.03)


def test_among_like_features_the_ridge_chooses_a_little_of_each():
    column = np.linspace(1, 2, 30)
    found = fit_nonnegative(np.stack([column, column], axis=1), 2 * column, ridge=0.01)
    assert found == pytest.approx([1, 1], rel=0.01)


def test_a_feature_that_is_always_zero():
    features = np.stack([np.ones(10), np.zeros(10)], axis=1)
    assert fit_nonnegative(features, np.full(10, 3.0), ridge=0) == pytest.approx([3, 0])
