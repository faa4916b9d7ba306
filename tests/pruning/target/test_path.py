"""Paths against exhaustive search over their networks."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.cost.resource import Resource
from lightning_cost.pruning.ranking import GlobalRanking
from lightning_cost.pruning.target.path import uniform_path, uniform_ratio_within


class SumOfWidths:
    """MACs: the product of neighbours; params: the sum."""

    def price(self, widths):
        return {
            Resource.macs: (widths[:, :-1] * widths[:, 1:]).sum(axis=1).astype(float),
            Resource.params: widths.sum(axis=1).astype(float),
        }


RANKING = GlobalRanking(scores={"a": (1.0, 5.0, 2.0, 8.0), "b": (4.0, 3.0, 7.0), "c": (6.0, 0.0)})


@given(st.floats(0, 20), st.floats(0, 10))
def test_first_within_is_the_largest_that_keeps_every_limit(macs, params):
    path, pricer = RANKING.path(), SumOfWidths()
    limits = {Resource.macs: macs, Resource.params: params}
    costs = pricer.price(path.widths)
    fits = [
        place
        for place in range(len(path))
        if all(costs[resource][place] <= limit for resource, limit in limits.items())
    ]
    assert path.first_within(pricer, limits) == (fits[0] if fits else None)


def test_without_limits_the_dense_network_fits():
    assert RANKING.path().first_within(SumOfWidths(), {}) == 0


@given(st.lists(st.integers(1, 12), min_size=1, max_size=4), st.integers(1, 4))
def test_uniform_widths_are_the_same_share_of_each_group(totals, multiple):
    order = {str(place): tuple(range(total)) for place, total in enumerate(totals)}
    path = uniform_path(order, steps=dict.fromkeys(order, multiple))
    expected = {
        tuple(
            min(total, -(-max(1, -(-total * step // 1000)) // multiple) * multiple)
            for total in totals
        )
        for step in range(1, 1001)
    }
    assert {tuple(row) for row in path.widths.tolist()} >= expected
    assert (np.diff(path.widths, axis=0) <= 0).all()


def test_uniform_widths_heed_floors():
    order = {"a": (0, 1, 2, 3), "b": (0, 1, 2, 3)}
    assert uniform_path(order, {"a": 3, "b": 9}).widths[-1].tolist() == [3, 4]
    assert len(uniform_path({})) == 1


def test_uniform_ratio():
    totals = {"a": 4, "b": 4}
    assert uniform_ratio_within(totals, SumOfWidths(), {Resource.macs: 9}) == 0.75
    assert uniform_ratio_within(totals, SumOfWidths(), {Resource.macs: 0.5}) is None
