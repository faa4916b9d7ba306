"""All copies of a network are fitted again, alike on all ranks."""

import copy

import pytest
import torch
from torch import nn

from lightning_cost.pruning.reconstruction.least_squares import Reconstruction
from lightning_cost.pruning.refit import Refit
from lightning_cost.pruning.structure.groups import channel_groups
from lightning_cost.pruning.structure.plan import Plan
from lightning_cost.pruning.structure.surgery import operated, removal

BATCH = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))


def forward(network, batch):
    return network(batch)


def network_of(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)).eval()


def halving(network):
    grouping = channel_groups(network, BATCH[:1])
    plan = Plan(kept={"0": (0, 2, 4, 6)}, num_channels=grouping.num_channels)
    return removal(grouping, plan)


class Ranks:
    """Two ranks in one process, of which rank 0 goes first: its answers are kept for the other."""

    def __init__(self):
        self.answers = []

    def first(self, function):
        self.answers.append(function())
        return self.answers[-1]

    def second(self, function):
        return self.answers.pop(0)


def test_networks_and_ranks_end_alike():
    trained, averaged = network_of(0), network_of(1)
    change = halving(trained)
    ranks = Ranks()
    on_first = [copy.deepcopy(trained), copy.deepcopy(averaged)]
    on_second = [copy.deepcopy(trained), copy.deepcopy(averaged)]
    refits = [
        Refit(on_first, lambda: BATCH, forward, on_first_rank=ranks.first, is_first=True),
        Refit(on_second, lambda: 1 / 0, forward, on_first_rank=ranks.second, is_first=False),
    ]
    cut = [copy.deepcopy(operated(network, change)) for network in (trained, averaged)]
    for networks in (on_first, on_second):
        for network, small in zip(networks, cut, strict=True):
            network[0], network[2] = copy.deepcopy(small[0]), copy.deepcopy(small[2])
    flops = [refit.fit(change) for refit in refits]
    assert flops[0] == flops[1] > 0
    for dense, small, first, second in zip(
        (trained, averaged), cut, on_first, on_second, strict=True
    ):
        expected = copy.deepcopy(small)
        Reconstruction(dense, BATCH, forward).fit(expected, change)
        for mine, others, wanted in zip(
            first.parameters(), second.parameters(), expected.parameters(), strict=True
        ):
            assert torch.equal(mine, wanted)
            assert torch.equal(others, wanted)
        assert not torch.equal(expected[2].weight, small[2].weight)


def test_an_error_of_rank_0_is_everybodys():
    def on_first_rank(function):
        try:
            return function()
        except ValueError as error:
            raise ValueError(f"told to all: {error}") from error

    def batch():
        raise ValueError("no data")

    with pytest.raises(ValueError, match="told to all: no data"):
        Refit([network_of(0)], batch, forward, on_first_rank=on_first_rank, is_first=True)
