"""Surgery against indexing by hand."""

import copy
import json

import pytest
import torch
from torch import nn

from lightning_cost.network.lineage import apply_change, lineage_from_list, lineage_of
from lightning_cost.pruning.structure.groups import channel_groups
from lightning_cost.pruning.structure.plan import Plan
from lightning_cost.pruning.structure.surgery import RemoveChannels, operated, removal
from tests.reference.random_networks import conv, depthwise, images, randomised


def _network():
    return randomised(nn.Sequential(conv(2, 4), nn.ReLU(), depthwise(4, 3), nn.Conv2d(3, 2, 1)))


def _change(network, kept=(1, 3)):
    grouping = channel_groups(network, images())
    dense = Plan.dense(grouping)
    plan = Plan(kept={**dense.kept, "0.0": kept}, num_channels=dense.num_channels)
    return removal(grouping, plan)


def test_tensors_are_those_of_the_kept_positions():
    network = _network()
    before = copy.deepcopy(network)
    swaps = _change(network).apply(network)
    assert torch.equal(network[0][0].weight, before[0][0].weight[[1, 3]])
    assert torch.equal(network[0][1].running_var, before[0][1].running_var[[1, 3]])
    assert torch.equal(network[2][0][0].weight, before[2][0][0].weight[[1, 3]])
    assert torch.equal(network[2][2][0].weight, before[2][2][0].weight[:, [1, 3]])
    filters = network[2][0][0]
    assert (filters.in_channels, filters.out_channels, filters.groups) == (2, 2, 2)
    assert (network[0][0].out_channels, network[0][1].num_features) == (2, 2)
    assert network[2][2][0].in_channels == 2
    live = {id(parameter) for parameter in network.parameters()}
    assert {id(swap.new) for swap in swaps} <= live
    assert not live & {id(swap.old) for swap in swaps}


def test_swaps_say_what_was_kept():
    network = _network()
    for swap in _change(network).apply(network):
        expected = swap.old
        for dim, index in swap.kept.items():
            expected = expected.index_select(dim, index)
        assert torch.equal(swap.new, expected)


def test_frozen_stays_frozen_and_channels_last_stays_channels_last():
    network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 3, 3), nn.Conv2d(3, 2, 1))
    network.to(memory_format=torch.channels_last)
    network[0].weight.requires_grad_(False)
    _change_of_0 = removal(
        channel_groups(network, images()),
        Plan(kept={"0": (0, 2), "1": (0, 1, 2)}, num_channels={"0": 4, "1": 3}),
    )
    apply_change(network, _change_of_0)
    assert not network[0].weight.requires_grad
    assert network[1].weight.requires_grad
    assert network[1].weight.is_contiguous(memory_format=torch.channels_last)


def test_the_record_survives_json():
    network, fresh = _network(), _network()
    apply_change(network, _change(network))
    (change,) = lineage_of(network)
    record = json.loads(json.dumps({"kind": change.kind, **change.to_dict()}))
    (read,) = lineage_from_list([record])
    assert read == change
    apply_change(fresh, read)
    assert {k: v.shape for k, v in fresh.state_dict().items()} == {
        k: v.shape for k, v in network.state_dict().items()
    }


def test_nothing_to_remove_is_an_empty_change():
    network = _network()
    assert _change(network, kept=(0, 1, 2, 3)) == RemoveChannels(kept={}, sizes={})


def test_operated_leaves_the_network_alone_and_shares_what_it_did_not_touch():
    network = _network()
    copied = operated(network, _change(network))
    assert network[0][0].out_channels == 4
    assert lineage_of(network) == ()
    assert copied[3].weight is network[3].weight
    assert copied[2][2][1].running_mean is not network[2][2][1].running_mean


def test_another_architecture_is_refused_and_untouched():
    network = _network()
    other = nn.Sequential(conv(2, 5), nn.ReLU(), depthwise(5, 3), nn.Conv2d(3, 2, 1))
    change = _change(network)
    with pytest.raises(ValueError, match=r"network must have 4 out channels at '0\.0', got .* 5"):
        change.apply(other)
    assert other[0][0].weight.shape[0] == 5
    with pytest.raises(ValueError, match=r"network must have a layer '0\.0'"):
        change.apply(nn.Sequential(nn.Linear(2, 2)))


def test_the_same_change_twice_is_refused():
    network = _network()
    change = _change(network)
    change.apply(network)
    with pytest.raises(ValueError, match="network must have 4 out channels"):
        change.apply(network)


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ((), "kept must leave one or more out channels of '0'"),
        ((7,), "kept must list, ascending, some of the 4"),
    ],
)
def test_impossible_changes_are_refused(kept, message):
    change = RemoveChannels(kept={"0": {"out": kept}}, sizes={"0": {"out": 4}})
    with pytest.raises(ValueError, match=message):
        change.apply(nn.Sequential(nn.Linear(3, 4)))


def test_channels_that_are_gone_do_not_come_back():
    network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 2, 1))
    grouping = channel_groups(network, images())
    first, second = (Plan(kept={"0": kept}, num_channels={"0": 4}) for kept in ((0, 1), (1, 2)))
    with pytest.raises(ValueError, match="plan must keep channels that are still there"):
        removal(grouping, second, first)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_an_encoder_with_fewer_heads_takes_padded_batches():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    network = nn.Sequential(nn.TransformerEncoder(layer, 1)).eval()
    x, padding = torch.randn(2, 4, 16), torch.tensor([[False] * 4, [False, False, True, True]])
    grouping = channel_groups(network, x)
    heads = next(group for group in grouping.groups if group.block > 1)
    kept = {name: tuple(range(num)) for name, num in grouping.num_channels.items()}
    kept[heads.name] = kept[heads.name][: heads.num_channels // 2]
    removal(grouping, Plan(kept=kept, num_channels=grouping.num_channels)).apply(network)
    with torch.no_grad():
        expected = network[0](x[1:, :2])
        found = network[0](x, src_key_padding_mask=padding)
    torch.testing.assert_close(found[1:, :2], expected)
