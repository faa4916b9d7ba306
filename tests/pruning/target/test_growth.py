"""Channels that come back to a network on a path, against trying everything one by one."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_cost.pruning.target.growth import largest_on, next_widths
from tests.reference.stairs import random_path


@st.composite
def cases(draw):
    totals = draw(st.lists(st.sampled_from([4, 8, 12, 24]), min_size=1, max_size=5))
    path = random_path(totals, multiple=draw(st.sampled_from([1, 2, 4])), seed=draw(st.integers(0)))
    prices = np.array(draw(st.lists(st.integers(1, 9), min_size=len(totals), max_size=len(totals))))
    share = draw(st.floats(0, 1))
    least, most = (path.widths[[-1, 0]] @ prices).tolist()
    return path, prices, least + share * (most - least)


def under(prices, limit):
    return lambda rows: rows @ prices <= limit


@settings(deadline=None)
@given(cases())
def test_the_limit_holds_and_no_group_can_have_more(case):
    path, prices, limit = case
    widths = largest_on(path, under(prices, limit))
    assert widths @ prices <= limit
    rows, _ = next_widths(path, widths)
    assert not len(rows) or (rows @ prices > limit).all()


@settings(deadline=None)
@given(cases(), st.floats(0, 1))
def test_a_tighter_budget_never_costs_more(case, share):
    path, prices, limit = case
    tighter = largest_on(path, under(prices, limit * share))
    if tighter is not None:
        assert tighter @ prices <= largest_on(path, under(prices, limit)) @ prices


@settings(deadline=None)
@given(cases())
def test_at_least_the_network_of_the_path_is_kept(case):
    path, prices, limit = case
    first = path.widths[int((path.widths @ prices <= limit).argmax())]
    assert (largest_on(path, under(prices, limit)) >= first).all()


def test_the_highest_ranking_channels_come_back_first():
    path = random_path([8, 8], multiple=2, seed=0)
    widths, ranks = next_widths(path, path.widths[-1])
    # the position that still has a block is the one after which it went
    for row, rank in zip(widths, ranks, strict=True):
        assert (path.widths[rank] >= row).all()
        assert rank == len(path) - 1 or not (path.widths[rank + 1] >= row).all()


def test_a_slower_width_is_stepped_over():
    path = random_path([16, 16], multiple=4, seed=0)
    base = path.widths[-1]

    def is_within(rows):  # a device that is slower with 8 channels than with 12
        return ~((rows == 8).any(axis=1)) & (rows[:, 0] <= 12) & (rows[:, 1] <= base[1])

    assert largest_on(path, is_within)[0] == 12


def test_nothing_is_within():
    assert largest_on(random_path([8], multiple=1, seed=0), lambda rows: rows[:, 0] < 0) is None


@settings(deadline=None)
@given(cases())
def test_the_path_to_widths_shrinks_to_them(case):
    path, prices, limit = case
    widths = largest_on(path, under(prices, limit))
    to_there = path.ending_at(widths)
    assert to_there.widths[0].tolist() == path.widths[0].tolist()
    assert to_there.widths[-1].tolist() == widths.tolist()
    assert (np.diff(to_there.widths, axis=0) <= 0).all()
    plans = [to_there.plan_at(place) for place in range(len(to_there))]
    assert all(after.is_within(before) for before, after in pairwise(plans))
