"""Predicted costs where laws do not reach: previews, many widths at once, what cannot be priced."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from lightning_cost.cost.macs import count_macs
from lightning_cost.cost.memory import peak_memory_bytes
from lightning_cost.cost.resource import Resource
from lightning_cost.cost.size import count_params, size_bytes
from lightning_cost.network.deploy import deployed_copy
from lightning_cost.pruning.pricing.axis_sizes import AxisSizes
from lightning_cost.pruning.pricing.pricer import WidthPricer
from lightning_cost.pruning.structure.groups import channel_groups
from lightning_cost.pruning.structure.plan import Plan
from lightning_cost.pruning.structure.surgery import operated, removal
from lightning_cost.quantization.callback import QuantizationAwareTraining
from tests.reference.random_networks import Residual, conv, images

NETWORK = nn.Sequential(conv(2, 4), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1), nn.Conv2d(3, 2, 1))


def _closed_form(a, b):
    """MACs and parameters as deployed, on 6 x 6 images: batch norm folded into a bias."""
    macs = 36 * (9 * 2 * a + 9 * a * b + 2 * b)
    params = (9 * 2 * a + a) + (9 * a * b + b) + (2 * b + 2)
    return macs, params


def test_all_widths_in_closed_form():
    pricer = WidthPricer.from_network(NETWORK, images(), channel_groups(NETWORK, images()))
    widths = np.array([[a, b] for a in range(1, 5) for b in range(1, 4)])
    costs = pricer.price(widths)
    expected = np.array([_closed_form(a, b) for a, b in widths.tolist()], dtype=float)
    np.testing.assert_array_equal(costs[Resource.macs], expected[:, 0])
    np.testing.assert_array_equal(costs[Resource.flops], 2 * expected[:, 0])
    np.testing.assert_array_equal(costs[Resource.params], expected[:, 1])
    np.testing.assert_array_equal(costs[Resource.size_bytes], 4 * expected[:, 1])
    assert pricer.resources == set(costs)


def test_more_widths_than_fit_in_a_chunk_and_none():
    pricer = WidthPricer.from_network(NETWORK, images(), channel_groups(NETWORK, images()))
    many = np.tile([[2, 3]], (20_000, 1))
    assert set(pricer.price(many)[Resource.macs]) == {_closed_form(2, 3)[0]}
    assert len(pricer.price(many)[Resource.macs]) == 20_000
    assert pricer.price(many[:0])[Resource.macs].shape == (0,)


def test_a_preview_is_priced_instead():
    def halved(network):
        return network.half().float().to(torch.float64)

    grouping = channel_groups(NETWORK, images())
    plan = Plan(kept={"0.0": (0, 2), "2": (1,)}, num_channels={"0.0": 4, "2": 3})
    plain = WidthPricer.from_network(NETWORK, images(), grouping)
    doubled = WidthPricer.from_network(
        NETWORK, images().double(), grouping, preview=halved
    ).price_plan(plan)
    assert doubled[Resource.size_bytes] == 2 * plain.price_plan(plan)[Resource.size_bytes]
    assert NETWORK[2].weight.dtype is torch.float32


def test_quantised_networks_are_priced_exactly():
    quantise = QuantizationAwareTraining("int8")

    def preview(network):
        return quantise.preview(network, images())

    grouping = channel_groups(NETWORK, images())
    pricer = WidthPricer.from_network(NETWORK, images(), grouping, preview=preview)
    plan = Plan(kept={"0.0": (0, 1, 3), "2": (0, 2)}, num_channels={"0.0": 4, "2": 3})
    pruned = preview(copy.deepcopy(operated(NETWORK, removal(grouping, plan))))
    deployed = deployed_copy(pruned, images())
    assert pricer.price_plan(plan) == {
        Resource.macs: count_macs(deployed, images()).total,
        Resource.flops: 2 * count_macs(deployed, images()).total,
        Resource.params: count_params(deployed),
        Resource.size_bytes: size_bytes(deployed),
        Resource.peak_memory_bytes: peak_memory_bytes(deployed, images()),
    }


def test_without_groups_the_price_is_that_of_the_network():
    network = nn.Linear(3, 4)
    grouping = channel_groups(network, torch.ones(1, 3))
    pricer = WidthPricer.from_network(network, torch.ones(1, 3), grouping)
    assert pricer.price_plan(Plan.dense(grouping))[Resource.macs] == 12


class Gram(nn.Module):
    """Multiplies features with themselves: work that belongs to no layer."""

    def __init__(self):
        super().__init__()
        self.make, self.end = nn.Linear(3, 4), nn.Linear(2, 2)

    def forward(self, x):
        features = self.make(x)
        return self.end((features @ features.T).expand(-1, 2))


def test_products_of_feature_maps_are_priced():
    grouping = channel_groups(Gram(), torch.ones(1, 3))
    pricer = WidthPricer.from_network(Gram(), torch.ones(1, 3), grouping)
    widths = np.arange(1, 5)[:, None]
    expected = 3 * widths[:, 0] + widths[:, 0] + 4
    np.testing.assert_array_equal(pricer.price(widths)[Resource.macs], expected)


def test_what_does_not_follow_from_two_layers_is_refused():
    chain = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    grouping = channel_groups(chain, torch.ones(1, 3))

    def with_extra(made):
        made.register_buffer("extra", torch.zeros(made[0].out_features ** 3))
        return made

    with pytest.raises(ValueError, match="size_bytes of each part must follow"):
        WidthPricer.from_network(chain, torch.ones(1, 3), grouping, preview=with_extra)


def test_probes_tell_outputs_from_inputs_even_in_tiny_groups():
    network = nn.Sequential(nn.Conv2d(2, 2, 3), Residual(2, 2), conv(2, 2), nn.Conv2d(2, 2, 1))
    sizes = AxisSizes.from_grouping(channel_groups(network, images()))
    widths = sizes.telling_widths()
    assert widths[0].tolist() == sizes.totals.tolist()
    outs, ins = sizes.at(widths)
    for place, name in enumerate(sizes.modules):
        if ins[0, place] and name not in ("0", "3"):
            assert (outs[:, place] != ins[:, place]).any(), name
