"""The target search against exhaustive search over paths whose true cost is known."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.cost.resource import Resource
from lightning_cost.pruning.target import LARGEST_NUM_MEASUREMENTS, largest_within

LATENCY = Resource.latency_ms


def _search(costs, limit, sizes=None, first=0):
    return largest_within(
        sizes or [1000 - index for index in range(len(costs))],
        first,
        lambda position: {LATENCY: costs[position]},
        {LATENCY: limit},
    )


def test_without_measured_limits_the_first_allowed_network_is_the_target():
    target = largest_within([3, 2, 1], 1, lambda _: pytest.fail("nothing to measure"), {})
    assert (target.position, target.num_measurements) == (1, 0)


def test_a_budget_that_is_kept_already_costs_one_measurement():
    target = _search([1.0, 0.9, 0.8], limit=2.0)
    assert (target.position, target.num_measurements) == (0, 1)


def test_nothing_on_the_path_keeps_the_limit():
    assert _search([4.0, 3.0, 2.0], limit=1.0) is None


@given(st.lists(st.floats(0.01, 0.2), min_size=3, max_size=60), st.floats(0.05, 0.95))
def test_never_over_and_full_or_as_large_as_can_be(drops, share):
    costs = [10.0]
    for drop in drops:
        costs.append(costs[-1] * (1 - drop))
    limit = costs[-1] + share * (costs[0] - costs[-1])
    target = _search(costs, limit)
    fits = [index for index, cost in enumerate(costs) if cost <= limit * 0.98]
    if not fits:
        assert target is None
        return
    assert costs[target.position] <= limit
    assert target.num_measurements <= LARGEST_NUM_MEASUREMENTS
    is_full = costs[target.position] >= 0.95 * limit
    assert is_full or target.position == fits[0] or target.num_measurements >= 8


def test_the_tightest_of_several_limits_decides():
    latency, energy = [4.0, 3.0, 2.0, 1.0], [40.0, 20.0, 10.0, 5.0]
    target = largest_within(
        [4, 3, 2, 1],
        0,
        lambda position: {LATENCY: latency[position], Resource.energy_mj: energy[position]},
        {LATENCY: 3.5, Resource.energy_mj: 11.0},
    )
    assert target.position == 2
    assert target.fill == pytest.approx(10 / 11)
