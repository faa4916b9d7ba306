"""Groups of networks whose coupling can be told by looking at them."""

import pytest
import torch
from torch import nn

from lightning_cost.pruning.structure.grouping import Grouping
from lightning_cost.pruning.structure.groups import channel_groups
from lightning_cost.zoo.mobilenet import mobilenet_v2_small
from lightning_cost.zoo.resnet import resnet8
from tests.reference.random_networks import (
    Concat,
    ConcatResidual,
    Residual,
    conv,
    depthwise,
    images,
    randomised,
)


def _grouping(*layers, **options):
    return channel_groups(randomised(nn.Sequential(*layers)).eval(), images(), **options)


def _members(grouping):
    return {
        group.name: {(member.module, member.axis) for member in group.members}
        for group in grouping.groups
    }


def test_a_chain_has_one_group_for_each_layer_but_the_last():
    grouping = _grouping(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.Conv2d(5, 3, 1))
    assert _members(grouping) == {
        "0": {("0", "out"), ("2", "in")},
        "2": {("2", "out"), ("3", "in")},
    }
    assert grouping.left_alone == {"3": "its channels are the network's output"}
    assert grouping.sizes == {"0": {"out": 4}, "2": {"in": 4, "out": 5}, "3": {"in": 5}}


def test_an_addition_couples_both_sides():
    grouping = _grouping(nn.Conv2d(2, 4, 3), Residual(4, 3), nn.Conv2d(4, 2, 1))
    assert _members(grouping)["0"] == {
        ("0", "out"),
        ("1.body.0.0", "in"),
        ("1.body.2.0", "out"),
        ("1.body.2.1", "out"),
        ("2", "in"),
    }


def test_a_concatenation_couples_nothing_and_shifts_positions():
    grouping = _grouping(Concat(2, 3, 4), nn.Conv2d(7, 2, 1))
    left, right = grouping.groups
    assert (left.name, right.name) == ("0.left.0", "0.right.0")
    assert next(m.index for m in left.members if m.module == "1") == ((0,), (1,), (2,))
    assert next(m.index for m in right.members if m.module == "1") == ((3,), (4,), (5,), (6,))


def test_channels_that_run_different_ways_are_groups_of_their_own():
    grouping = _grouping(ConcatResidual(2, 3, 4), nn.Conv2d(7, 2, 1))
    assert grouping.num_channels == {"0.branches.left.0": 3, "0.branches.right.0": 4}
    right = next(m for m in grouping.groups[1].members if m.module == "0.shortcut.0")
    assert right.index == ((3,), (4,), (5,), (6,))


def test_two_groups_of_one_maker_get_names_of_their_own():
    class Halves(nn.Module):
        def __init__(self):
            super().__init__()
            self.made = nn.Conv2d(2, 6, 1)
            self.first, self.second = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 4, 1)
            self.last = nn.Conv2d(6, 2, 1)

        def forward(self, x):
            return self.last(self.made(x) + torch.cat([self.first(x), self.second(x)], dim=1))

    grouping = channel_groups(randomised(Halves()), images())
    assert grouping.num_channels == {"made": 2, "made#2": 4}


def test_a_depthwise_convolution_goes_with_the_channels_that_it_filters():
    grouping = _grouping(nn.Conv2d(2, 4, 3), depthwise(4, 5), nn.Conv2d(5, 2, 1))
    assert _members(grouping)["0"] == {
        ("0", "out"),
        ("1.0.0", "out"),
        ("1.0.1", "out"),
        ("1.2.0", "in"),
    }


def test_a_flattened_channel_takes_one_position_per_pixel():
    grouping = _grouping(conv(2, 3), nn.Flatten(), nn.Linear(108, 4))
    linear = next(m for m in grouping.groups[0].members if m.module == "2")
    assert linear.index == tuple(tuple(range(36 * c, 36 * c + 36)) for c in range(3))


def test_transposed_and_other_dimensions():
    network = nn.Sequential(nn.Conv1d(2, 4, 3), nn.ConvTranspose1d(4, 5, 3), nn.Conv1d(5, 2, 1))
    grouping = channel_groups(network, torch.randn(1, 2, 9))
    assert grouping.num_channels == {"0": 4, "1": 5}
    network = nn.Sequential(nn.Conv3d(2, 4, 3), nn.BatchNorm3d(4), nn.Conv3d(4, 2, 1))
    assert channel_groups(network, torch.randn(1, 2, 4, 4, 4)).num_channels == {"0": 4}


def test_several_inputs_by_keyword():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(2, 3), nn.Linear(4, 3), nn.Linear(3, 2)

        def forward(self, x, y):
            return self.c(self.a(x) + self.b(y))

    example = {"x": torch.ones(1, 2), "y": torch.ones(1, 4)}
    assert channel_groups(Sum(), example).num_channels == {"a": 3}
    assert channel_groups(Sum(), tuple(example.values())).num_channels == {"a": 3}


def test_the_zoo_is_pruned_throughout():
    for network in (resnet8(width=4), mobilenet_v2_small(width=4)):
        grouping = channel_groups(network, torch.randn(1, 3, 16, 16))
        assert list(grouping.left_alone) == ["classifier"]


@pytest.mark.parametrize("make", [resnet8, mobilenet_v2_small])
def test_memory_layout_changes_nothing(make):
    example = torch.zeros(1, 1, 16, 16)
    network = make(width=4, in_channels=1)
    expected = channel_groups(network, example)
    network.to(memory_format=torch.channels_last)
    assert channel_groups(network, example) == expected
    found = channel_groups(network, example.to(memory_format=torch.channels_last))
    assert found == expected


def test_branches_that_start_at_zero_are_traced_all_the_same():
    network = nn.Sequential(nn.Conv2d(2, 4, 3), Residual(4, 3), nn.Conv2d(4, 2, 1))
    nn.init.zeros_(network[1].body[2][1].weight)
    assert channel_groups(network, images()).num_channels == {"0": 4, "1.body.0.0": 3}


def test_frozen_parameters_are_traced_all_the_same():
    network = nn.Sequential(conv(2, 3), nn.Conv2d(3, 2, 1)).requires_grad_(False)
    assert channel_groups(network, images()).num_channels == {"0.0": 3}
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_excluded_modules_keep_their_channels():
    layers = nn.Conv2d(2, 4, 3), Residual(4, 3), nn.Conv2d(4, 2, 1)
    assert _grouping(*layers, exclude=["1.body.0"]).num_channels == {"0": 4}
    grouping = _grouping(*layers, exclude=["0"])
    assert grouping.num_channels == {"1.body.0.0": 3}
    assert grouping.left_alone["1.body.2.0"] == "0 is excluded"


def test_an_unknown_exclusion_is_named():
    with pytest.raises(ValueError, match=r"exclude must name modules of the network, got 'stem'"):
        _grouping(nn.Conv2d(2, 4, 3), exclude=["stem"])


def test_few_groups_of_a_convolution_lose_equally_many_channels():
    grouping = _grouping(
        nn.Conv2d(2, 6, 3), nn.Conv2d(6, 8, 3, groups=2), nn.Conv2d(8, 4, 1), nn.Conv2d(4, 2, 1)
    )
    assert grouping.num_channels == {"0": 3, "1": 4, "2": 4}
    into = next(member.index for member in grouping.groups[0].members if member.module == "1")
    assert into == ((0, 3), (1, 4), (2, 5))
    after = next(member.index for member in grouping.groups[1].members if member.module == "2")
    assert after == ((0, 4), (1, 5), (2, 6), (3, 7))


def test_many_groups_of_a_convolution_go_as_a_whole():
    grouping = _grouping(nn.Conv2d(2, 16, 3), nn.Conv2d(16, 24, 3, groups=8), nn.Conv2d(24, 2, 1))
    (group,) = grouping.groups
    assert group.num_channels == 8
    assert _members(grouping)["0"] == {("0", "out"), ("1", "in"), ("1", "out"), ("2", "in")}
    assert group.members[0].index[1] == (2, 3)
    assert group.members[-1].index[1] == (3, 4, 5)


def test_what_is_normalised_across_channels_is_left_alone():
    grouping = _grouping(nn.Conv2d(2, 4, 3), nn.GroupNorm(1, 4), nn.Conv2d(4, 2, 1))
    assert grouping.groups == ()
    assert grouping.left_alone["0"] == "its channels reach 1 (GroupNorm) (normalised over channels)"


def test_groups_of_a_group_norm_go_as_a_whole():
    grouping = _grouping(nn.Conv2d(2, 6, 3), nn.GroupNorm(3, 6), nn.Conv2d(6, 2, 1))
    assert grouping.num_channels == {"0": 3}
    assert grouping.groups[0].members[0].index == ((0, 1), (2, 3), (4, 5))


def test_a_shared_weight_loses_the_same_channels_wherever_it_is():
    network = nn.Sequential(
        nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 2)
    )
    network[4].weight = network[2].weight
    grouping = channel_groups(network, torch.ones(1, 2))
    assert grouping.num_channels == {"0": 4}
    assert _members(grouping)["0"] == {
        *((name, "out") for name in "024"),
        *((name, "in") for name in "245"),
    }


def test_a_parametrised_weight_is_left_alone():
    first = nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 4, 3))
    assert _grouping(first, nn.Conv2d(4, 2, 1)).groups == ()


def test_channels_that_are_outputs_are_left_alone():
    class Features(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 2, 1)

        def forward(self, x):
            features = self.body(x).relu()
            return self.head(features), features

    assert channel_groups(Features(), images()).groups == ()


def test_what_the_graph_gets_wrong_is_found_out():
    class Mixed(nn.Module):
        """Their number is used as a number, which no label tells."""

        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 2, 1)
            self.side, self.end = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 2, 1)

        def forward(self, x):
            return self.head(self.body(x) / self.body.out_channels) + self.end(self.side(x))

    grouping = channel_groups(randomised(Mixed()), images())
    assert grouping.num_channels == {"side": 4}
    assert grouping.left_alone["body"].startswith("more depends on its channels")


def test_channels_in_an_order_that_matters_are_left_alone():
    class Rolled(nn.Sequential):
        def forward(self, x):
            return self[1](self[0](x).roll(1, dims=1))

    grouping = channel_groups(Rolled(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 2, 1)), images())
    assert grouping.left_alone["0"] == "its channels reach Rolled (roll)"


def test_a_network_without_channels_to_remove():
    assert channel_groups(nn.Identity(), torch.ones(1, 2, requires_grad=True)).groups == ()


def test_round_trip():
    grouping = _grouping(ConcatResidual(2, 3, 4), nn.Flatten(), nn.Linear(252, 2))
    assert Grouping.from_dict(grouping.to_dict()) == grouping
