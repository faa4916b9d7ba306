"""Bounds on what pruning may do to a group."""

import pytest

from lightning_cost.pruning.target.channels import USUAL_MULTIPLE, ChannelRules


def test_without_a_multiple_it_is_the_usual_one():
    rules = ChannelRules()
    assert rules.step == USUAL_MULTIPLE
    assert rules.floor(64, 0.3) == ChannelRules(multiple=USUAL_MULTIPLE).floor(64, 0.3) == 24


def test_a_multiple_that_is_given_holds():
    rules = ChannelRules(multiple=6)
    assert (rules.step, rules.floor(4, 0), rules.floor(64, 0), rules.floor(64, 0.3)) == (
        6,
        4,
        6,
        24,
    )


def test_a_head_counts_by_the_channels_in_it():
    rules = ChannelRules(multiple=8)
    assert [rules.step_of(block) for block in (1, 2, 3, 4, 8, 12, 64)] == [8, 4, 8, 2, 1, 2, 1]
    assert rules.floor(12, 0.3, block=64) == 4
    assert rules.floor(12, 0.3, block=4) == 4
    assert rules.floor(12, 0.0, block=64) == 1


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
