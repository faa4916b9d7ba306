import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from lightning_cost.runtime.median import batch_medians, median_interval


@given(num_values=st.integers(6, 300), confidence=st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_it_is_the_narrowest_pair_that_holds_the_median_often_enough(num_values, confidence):
    found = median_interval(range(1, num_values + 1), confidence)
    if found is None:
        assert binom.cdf(0, num_values, 0.5) > (1 - confidence) / 2
        return
    low, high = found
    assert low - 1 == num_values - high
    # the median is below the k-th smallest value if fewer than k values are below the median
    tail = binom.cdf(low - 1, num_values, 0.5)
    assert 1 - 2 * tail >= confidence - 1e-9
    if low + 1 < high - 1:
        assert 2 * binom.cdf(low, num_values, 0.5) > (1 - confidence) - 1e-9


def test_five_values_are_too_few_for_95_percent():
    assert median_interval([1, 2, 3, 4, 5]) is None
    assert median_interval([]) is None
    assert median_interval([3, 1, 2, 6, 5, 4]) == (1, 6)


@given(samples=st.lists(st.floats(0, 10), min_size=1, max_size=60), num_batches=st.integers(1, 20))
def test_batches_are_consecutive_as_large_as_each_other_and_leave_nothing_out(samples, num_batches):
    medians = batch_medians(samples, num_batches)
    count = min(num_batches, len(samples))
    assert len(medians) == count
    sizes = [(i + 1) * len(samples) // count - i * len(samples) // count for i in range(count)]
    assert sum(sizes) == len(samples)
    assert max(sizes) - min(sizes) <= 1
    remaining = list(samples)
    expected = [statistics.median([remaining.pop(0) for _ in range(size)]) for size in sizes]
    assert medians == expected


@given(samples=st.lists(st.floats(0, 10), min_size=6, max_size=200))
def test_the_median_of_all_lies_between_those_of_the_batches(samples):
    low, high = median_interval(batch_medians(samples))
    assert low - 1e-9 <= statistics.median(samples) <= high + 1e-9


@pytest.mark.parametrize("drift", [0.0, 0.01])
def test_a_drift_widens_the_interval(drift):
    samples = [1 + drift * index + 0.001 * (index % 7) for index in range(600)]
    low, high = median_interval(batch_medians(samples))
    assert high - low == pytest.approx(drift * 500, abs=0.005)
