"""A budget on a device, as a fit asks for it."""

import copy

import pytest
import torch
from torch import nn

from lightning_cost.budget.model import ModelBudget
from lightning_cost.cost.resource import Resource
from lightning_cost.hardware.device import Hardware
from lightning_cost.monitor.callback import CostMonitor
from lightning_cost.monitor.measure import measure
from lightning_cost.pruning.target.channels import ChannelRules
from lightning_cost.pruning.target.demand import Demand

EXAMPLE = torch.zeros(1, 3, 8, 8)
BOARD = Hardware.load("raspberry_pi_4")
MACS, MS, SIZE = Resource.macs, Resource.latency_ms, Resource.size_bytes


def network_of(width=8):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, width, 3), nn.ReLU(), nn.Conv2d(width, 8, 3), nn.Flatten(), nn.Linear(128, 10)
    )


def demand_of(budget, *, preview=lambda network: network, hardware=BOARD, **given):
    return Demand(
        budget=budget,
        hardware=hardware,
        rules=ChannelRules(multiple=2),
        example=EXAMPLE,
        preview=preview,
        **given,
    )


@pytest.mark.parametrize(
    ("budget", "wanted"),
    [
        (ModelBudget(macs="50%"), {MACS}),
        (ModelBudget(latency_ms="50%"), {MS}),
        (ModelBudget(energy_mj="50%", macs="50%"), {MACS, Resource.energy_mj, MS}),
    ],
)
def test_latency_is_known_wherever_a_device_is_asked(budget, wanted):
    found = demand_of(budget).dense_cost(network_of(), [])
    assert found.keys() == wanted
    expected = measure(network_of(), EXAMPLE, hardware=BOARD)
    assert {r: entry.value for r, entry in found.items()} == {r: expected[r].value for r in wanted}


def test_what_a_monitor_has_measured_is_taken_where_it_is_for_the_same_device():
    demand = demand_of(ModelBudget(latency_ms="50%"))
    same, other = CostMonitor(BOARD), CostMonitor(Hardware.load("raspberry_pi_5"))
    for monitor in (same, other):
        cost = measure(network_of(16), EXAMPLE, hardware=monitor.hardware)
        monitor.tracker.refresh(network_of(16), lambda cost=cost: cost, setting="other")
    own = demand.dense_cost(network_of(), [object(), other])
    assert own[MS] == measure(network_of(), EXAMPLE, hardware=BOARD)[MS]
    assert demand.dense_cost(network_of(), [other, same])[MS] == same.dense[MS] != own[MS]


def test_limits_are_on_what_will_be_deployed():
    def preview(network):
        network[0] = nn.Conv2d(3, 8, 1)
        return network[:1]

    network = network_of()
    before = copy.deepcopy(network)
    demand = demand_of(ModelBudget(macs=1e5, size_bytes=1e5), preview=preview)
    found = demand.deployed_cost(network)
    expected = measure(preview(copy.deepcopy(before)), EXAMPLE)
    assert {r: found[r].value for r in found} == {r: expected[r].value for r in (MACS, SIZE)}
    assert str(network) == str(before)


def test_percentages_are_of_the_dense_cost():
    network = network_of()
    demand = demand_of(ModelBudget(macs="50%", size_bytes=9000.0), hardware=None)
    dense = demand.dense_cost(network, [])
    problem = demand.problem(network, dense)
    assert problem.limits == {MACS: 0.5 * dense[MACS].value, SIZE: 9000.0}
    assert problem.network is network
    assert problem.rules.multiple == 2
    problem.require_reachable()


def test_what_a_device_limits_is_compared_with_the_dense_network_as_delivered():
    """What another callback saves, channels need not."""

    def preview(network):
        last = network[2]
        network[2] = nn.Sequential(nn.AvgPool2d(2), last)
        network[4] = nn.Linear(last.out_channels, 10)
        return network

    network = network_of()
    demand = demand_of(ModelBudget(latency_ms="50%", macs="95%"), preview=preview)
    dense, delivered = demand.dense_cost(network, []), demand.delivered(network)
    ratio = 0.5 * dense[MS].value / delivered[MS].value
    assert 0.5 < ratio < 0.95
    assert demand.problem(network, dense, delivered).macs_ratio() == pytest.approx(ratio)
    assert demand.problem(network, dense).macs_ratio() == pytest.approx(0.5)
    loose = demand_of(ModelBudget(latency_ms="99%", macs="95%"), preview=preview)
    assert loose.problem(network, dense, delivered).macs_ratio() == pytest.approx(0.95)


def test_nothing_is_measured_twice_where_it_would_be_the_same():
    alone = demand_of(ModelBudget(latency_ms="50%"), is_changed_later=False)
    assert alone.delivered(network_of()) is None
