"""Peak memory of width assignments, against networks that were built with them."""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from lightning_cost.cost.liveness import Step
from lightning_cost.cost.memory import peak_memory_bytes
from lightning_cost.cost.resource import Resource
from lightning_cost.network.deploy import deployed_copy
from lightning_cost.pruning.pricing.axis_sizes import AxisSizes
from lightning_cost.pruning.pricing.memory import (
    MemoryPricer,
    UnpriceableError,
    with_memory_probes,
)
from lightning_cost.pruning.pricing.pricer import WidthPricer
from lightning_cost.pruning.structure.groups import channel_groups
from lightning_cost.pruning.structure.plan import Plan
from lightning_cost.pruning.structure.surgery import operated, removal
from lightning_cost.quantization.callback import QuantizationAwareTraining
from lightning_cost.zoo.mobilenet import mobilenet_v2_small
from lightning_cost.zoo.resnet import resnet8
from tests.reference.plans import plans
from tests.reference.random_networks import images, networks

law = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
PEAK = Resource.peak_memory_bytes


@law
@given(st.data())
def test_quantised_networks_of_every_kind_are_priced_exactly(data):
    network = data.draw(networks())
    grouping = channel_groups(network, images())
    quantise = QuantizationAwareTraining("int8")

    def preview(network):
        return quantise.preview(network, images())

    pricer = WidthPricer.from_network(network, images(), grouping, preview=preview)
    for _ in range(3):
        plan = data.draw(plans(grouping))
        built = preview(operated(network, removal(grouping, plan)))
        deployed = deployed_copy(built, images())
        assert pricer.price_plan(plan)[PEAK] == peak_memory_bytes(deployed, images())


@pytest.mark.parametrize("build", [resnet8, mobilenet_v2_small])
def test_networks_of_the_zoo_are_priced_exactly(build):
    network, example = build(in_channels=1).eval(), torch.zeros(1, 1, 28, 28)
    grouping = channel_groups(network, example)
    pricer = WidthPricer.from_network(network, example, grouping)
    generator = np.random.default_rng(0)
    totals = pricer.sizes.totals
    widths = generator.integers(1, totals, (6, len(totals)), endpoint=True)
    for row, peak in zip(widths.tolist(), pricer.price(widths)[PEAK], strict=True):
        kept = {name: tuple(range(n)) for name, n in zip(pricer.names, row, strict=True)}
        plan = Plan(kept=kept, num_channels=grouping.num_channels)
        deployed = deployed_copy(operated(network, removal(grouping, plan)), example)
        assert peak == peak_memory_bytes(deployed, example)


class Gram(nn.Module):
    """Multiplies features with themselves: a buffer that grows with the square of the width."""

    def __init__(self):
        super().__init__()
        self.make, self.end = nn.Linear(6, 8), nn.Linear(8, 2)

    def forward(self, x):
        features = self.make(x)
        return self.end(features * (features[:, :, None] * features[:, None, :]).sum())


class Narrowed(nn.Module):
    """Takes another way where it is narrow."""

    def __init__(self):
        super().__init__()
        self.make, self.end = nn.Linear(6, 8), nn.Linear(8, 2)

    def forward(self, x):
        x = self.make(x)
        return self.end(x if self.make.out_features > 4 else x.sigmoid())


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Gram, r"what aten\.mul writes does not have the channels of any layer"),
        (
            Narrowed,
            r"the network runs .* with the widths \[1\], where it runs .* with all channels",
        ),
    ],
)
def test_what_does_not_follow_from_the_widths_is_not_priced_and_says_why(kind, reason):
    chain = nn.Sequential()
    chain.make, chain.end = nn.Linear(6, 8), nn.Linear(8, 2)
    example = torch.zeros(1, 6)
    grouping = channel_groups(chain, example)

    def preview(built):
        made = kind()
        made.make, made.end = built.make, built.end
        return made

    pricer = WidthPricer.from_network(chain, example, grouping, preview=preview)
    assert PEAK not in pricer.resources
    assert PEAK not in pricer.price(pricer.sizes.totals[None])
    with pytest.raises(UnpriceableError, match=rf"peak_memory_bytes is not predicted .*{reason}"):
        raise UnpriceableError(pricer.unpriced[PEAK])


def test_a_concatenation_that_no_layer_reads_is_the_sum_of_its_parts():
    sizes = AxisSizes(
        modules=("a", "b"),
        totals=np.array([8, 6]),
        slopes=np.array([[[1.0, 0], [0, 1]], [[0, 0], [0, 0]]]),
        constants=np.array([[0.0, 0], [3, 3]]),
    )
    widths = np.array([[8, 6], [1, 1], [5, 2], [3, 4]])
    recorded = [
        [
            Step((), {0: 12}),
            Step((0,), {1: 4 * a}),
            Step((0,), {2: 4 * b}),
            Step((1, 2), {3: 4 * (a + b)}, operator="aten.cat"),
            Step((3,), {}),
        ]
        for a, b in widths.tolist()
    ]
    pricer = MemoryPricer.from_steps(recorded, sizes, widths)
    assert pricer.price(np.array([[2, 3], [7, 1]])).tolist() == [2 * 4 * 5, 2 * 4 * 8]


def test_widths_to_record_tell_all_layers_apart():
    network = resnet8(in_channels=1)
    sizes = AxisSizes.from_grouping(channel_groups(network, torch.zeros(1, 1, 28, 28)))
    probes = with_memory_probes(sizes.totals[None], sizes)
    assert probes.min() >= 1
    assert (probes <= sizes.totals).all()
    assert (probes[1] == 1).all()
    channels = np.concatenate(sizes.at(probes), axis=1).T
    slopes = np.concatenate([sizes.slopes[0].T, sizes.slopes[1].T])
    for one, other in combinations(np.flatnonzero(slopes.any(axis=1)), 2):
        first, second = channels[one, 0], channels[other, 0]
        is_same = (slopes[one] * second == slopes[other] * first).all()
        assert (channels[one] * second == channels[other] * first).all() == is_same
