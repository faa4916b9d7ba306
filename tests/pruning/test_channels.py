"""Bounds on what pruning may do to a group."""

import pytest

from lightning_cost.pruning.channels import USUAL_MULTIPLE, ChannelRules


def test_without_a_multiple_it_is_the_usual_one():
    rules = ChannelRules()
    assert rules.step == USUAL_MULTIPLE
    assert rules.smallest(64) == USUAL_MULTIPLE
    assert rules.floor(64, 0.3) == ChannelRules(multiple=USUAL_MULTIPLE).floor(64, 0.3) == 24


def test_a_multiple_that_is_given_holds():
    rules = ChannelRules(multiple=6)
    assert (rules.step, rules.smallest(4), rules.smallest(64), rules.floor(64, 0.3)) == (
        6,
        4,
        6,
        24,
    )


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"multiple": 0}, "multiple must be >= 1, got 0; use 1 for no rounding"),
        ({"min_keep_ratio": 1.5}, r"min_keep_ratio must lie in \[0, 1\], got 1\.5"),
    ],
)
def test_bounds_that_make_no_sense(given, match):
    with pytest.raises(ValueError, match=match):
        ChannelRules(**given)
