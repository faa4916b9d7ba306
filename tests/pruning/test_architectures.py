"""Every kind of coupling: removed is silenced, predicted is counted, and training goes on."""

import copy
import json

import pytest
import torch
from torch import nn

from lightning_cost.cost.forward import run_forward, tensors_of
from lightning_cost.cost.macs import count_macs
from lightning_cost.cost.resource import Resource
from lightning_cost.cost.size import count_params
from lightning_cost.network.deploy import deployed_copy
from lightning_cost.network.lineage import lineage_from_list, lineage_of, lineage_to_list, replay
from lightning_cost.pruning.pricing.pricer import WidthPricer
from lightning_cost.pruning.saliency import group_saliency
from lightning_cost.pruning.structure.grouping import Grouping
from lightning_cost.pruning.structure.groups import channel_groups
from lightning_cost.pruning.structure.plan import Plan, masked
from lightning_cost.pruning.structure.surgery import operated, removal
from tests.reference.random_networks import randomised
from tests.reference.small_networks import NETWORKS

WIDTHS = {
    "self_attention": {"qkv": 4},
    "torch_attention": {"attention": 4},
    "torch_attention_weights": {"attention": 4},
    "torch_attention_no_bias": {"attention": 4},
    "cross_attention": {"attention": 4},
    "encoder_layer": {"self_attn": 4, "linear1": 24},
    "single_head": {"q": 8, "v": 6},
    "shuffled": {"branch.0": 8, "stem": 6},
    "gated": {"first": 6},
    "unet": {"down": 6, "bottom": 8, "up": 5, "join": 4},
    "shared_block": {"left": 8, "block.0": 6, "block.2": 8},
    "lstm": {"layer": 8},
    "lstm_bidirectional": {"layer": 8},
    "gru": {"layer": 8},
    "rnn": {"layer": 8},
    "conv1d": {"0": 6},
    "conv3d": {"0": 6},
    "subclass": {"0": 6},
    "wide_groups": {"0": 4, "1": 6},
    "many_groups": {"0": 8},
    "depth_multiplier": {"0": 4},
    "group_norm": {"0": 4},
    "late_classifier": {"body": 6},
}


def _setting(name):
    build, example = NETWORKS[name]
    torch.manual_seed(0)
    network = randomised(build()).eval()
    return network, example, channel_groups(network, example)


def _plans(grouping):
    totals = grouping.num_channels
    for start, step in ((0, 2), (1, 3)):
        yield Plan(
            kept={name: tuple(range(start, total, step)) for name, total in totals.items()},
            num_channels=totals,
        )


@pytest.mark.parametrize("name", NETWORKS)
def test_groups_are_found_and_survive_json(name):
    _, _, grouping = _setting(name)
    assert grouping.num_channels == WIDTHS[name]
    assert Grouping.from_dict(json.loads(json.dumps(grouping.to_dict()))) == grouping


@pytest.mark.parametrize("name", NETWORKS)
def test_removed_is_silenced_and_predicted_is_counted(name):
    network, example, grouping = _setting(name)
    pricer = WidthPricer.from_network(network, example, grouping)
    for plan in _plans(grouping):
        pruned = operated(network, removal(grouping, plan))
        with torch.no_grad():
            found = tensors_of(run_forward(pruned, example))
            expected = tensors_of(run_forward(masked(network, grouping, plan), example))
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * other.abs().max().item())
        predicted = pricer.price_plan(plan)
        deployed = deployed_copy(pruned, example)
        assert predicted[Resource.macs] == count_macs(deployed, example).total
        assert predicted[Resource.params] == count_params(deployed)


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_left_trains_and_is_replayed_on_a_fresh_network(name):
    network, example, grouping = _setting(name)
    pruned = copy.deepcopy(operated(network, removal(grouping, next(_plans(grouping)))))
    fresh = NETWORKS[name][0]()
    replay(fresh, lineage_from_list(json.loads(json.dumps(lineage_to_list(lineage_of(pruned))))))
    fresh.load_state_dict(pruned.state_dict())
    with torch.no_grad():
        pairs = zip(
            tensors_of(run_forward(fresh.eval(), example)),
            tensors_of(run_forward(pruned.eval(), example)),
            strict=True,
        )
        assert all(torch.equal(one, other) for one, other in pairs)
    outputs = tensors_of(run_forward(pruned.train(), example))
    sum(output.square().sum() for output in outputs).backward()
    for parameter in pruned.parameters():
        assert parameter.grad is None or parameter.grad.shape == parameter.shape


def test_every_producer_is_scored():
    for name in ("gru", "torch_attention", "lstm"):
        network, _, grouping = _setting(name)
        scores = group_saliency(network, grouping)
        assert {key: len(value) for key, value in scores.items()} == WIDTHS[name]


def test_a_head_is_scored_by_its_queries_keys_and_values():
    network, _, grouping = _setting("torch_attention")
    weight = network.attention.in_proj_weight.detach().double().reshape(3, 4, 4, 16)
    expected = weight.square().sum((0, 2, 3))
    torch.testing.assert_close(group_saliency(network, grouping)["attention"], expected)


def test_code_that_does_not_follow_is_named():
    class FixedHeads(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.proj = nn.Linear(16, 48), nn.Linear(16, 2)

        def forward(self, x):
            query, key, value = self.qkv(x).view(2, 6, 3, 4, 4).permute(2, 0, 3, 1, 4)
            mixed = (query @ key.transpose(-1, -2)).softmax(-1) @ value
            return self.proj(mixed.transpose(1, 2).reshape(2, 6, 16))

    grouping = channel_groups(randomised(FixedHeads()), NETWORKS["gated"][1])
    assert grouping.groups == ()
    assert "more depends on its channels" in grouping.left_alone["qkv"]
