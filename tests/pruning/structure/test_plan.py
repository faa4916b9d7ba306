"""Plans as data."""

import pytest
from torch import nn

from lightning_cost.pruning.structure.groups import channel_groups
from lightning_cost.pruning.structure.plan import Plan, masked, removed_positions
from tests.reference.random_networks import images


def _plan(**kept):
    return Plan(kept=kept, num_channels=dict.fromkeys(kept, 4))


def test_widths_and_keep_ratio():
    plan = _plan(a=(0, 3), b=(0, 1, 2, 3))
    assert plan.widths == {"a": 2, "b": 4}
    assert plan.keep_ratio == 0.75
    assert Plan(kept={}, num_channels={}).keep_ratio == 1.0


def test_is_within():
    assert _plan(a=(1,)).is_within(_plan(a=(1, 2)))
    assert not _plan(a=(1, 3)).is_within(_plan(a=(1, 2)))


def test_round_trip():
    plan = _plan(a=(0, 3))
    assert Plan.from_dict(plan.to_dict()) == plan


@pytest.mark.parametrize("channels", [(), (0, 0), (2, 1), (-1, 0), (0, 4)])
def test_impossible_plans_are_refused(channels):
    with pytest.raises(ValueError, match=r"kept must list, ascending, one or more of the 4 .* 'a'"):
        _plan(a=channels)


def test_a_plan_names_its_groups():
    with pytest.raises(ValueError, match=r"kept must name the groups of num_channels, got \['b'\]"):
        Plan(kept={"a": (0,)}, num_channels={"a": 1, "b": 2})


def test_a_plan_for_other_groups_is_refused():
    network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 2, 1))
    with pytest.raises(ValueError, match="plan must be made for the groups of this network"):
        removed_positions(channel_groups(network, images()), _plan(a=(0,)))


def test_masking_leaves_the_network_alone():
    network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 2, 1))
    grouping = channel_groups(network, images())
    expected = network(images())
    silenced = masked(network, grouping, Plan(kept={"0": (1,)}, num_channels={"0": 4}))
    assert not silenced(images()).equal(expected)
    assert network(images()).equal(expected)
