"""What is asked of a network before it is pruned."""

import pytest
import torch
from torch import nn

from lightning_cost.cost.resource import Resource
from lightning_cost.monitor.measure import measure
from lightning_cost.pruning.channels import ChannelRules
from lightning_cost.pruning.plan import Plan
from lightning_cost.pruning.problem import PruningProblem
from lightning_cost.pruning.ranking import GlobalRanking
from lightning_cost.pruning.saliency import group_saliency
from lightning_cost.pruning.schedule import PruningSchedule
from lightning_cost.pruning.steps import step_plans

EXAMPLE = torch.zeros(1, 3, 8, 8)


def _network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.Flatten(), nn.Linear(512, 10)
    )


def _problem(limits, **rules):
    return PruningProblem.of(
        _network(),
        EXAMPLE,
        rules=ChannelRules(multiple=rules.pop("multiple", 4), **rules),
        limits=limits,
        preview=lambda network: network,
        hardware=None,
    )


def test_nothing_to_remove_is_said_with_the_reasons():
    with pytest.raises(
        ValueError, match=r"must have channels that can be removed, got none \(0: 0 is excluded"
    ):
        _problem({Resource.macs: 1}, exclude=["0", "2"])


def test_an_unreachable_limit_names_the_nearest_value():
    problem = _problem({Resource.params: 100.0})
    nearest = problem.pricer.price_plan(problem.smallest())[Resource.params]
    with pytest.raises(
        ValueError, match=rf"params <= 100 parameter \(nearest reachable: {nearest:g}"
    ):
        problem.require_reachable()


def test_cost_of_a_plan_is_what_the_pricer_says():
    problem = _problem({Resource.macs: 1e5, Resource.size_bytes: 1e4})
    plan = problem.smallest()
    priced, counted = problem.pricer.price_plan(plan), problem.cost_of(plan)
    for resource in problem.limits:
        assert counted[resource].value == priced[resource]


def test_steps_shrink_to_the_largest_network_within_all_limits():
    network = _network()
    dense = measure(network, EXAMPLE)
    limits = {
        Resource.macs: 0.5 * dense[Resource.macs].value,
        Resource.params: 0.6 * dense[Resource.params].value,
    }
    problem = _problem(limits)
    ranking = GlobalRanking.transformed(group_saliency(network, problem.grouping))
    plans = step_plans(problem, ranking, PruningSchedule(num_steps=3), dense)
    assert len(plans) == 3
    for smaller, larger in zip(plans[1:], plans, strict=False):
        assert smaller.is_within(larger)
    assert plans[0] != Plan.dense(problem.grouping)
    last = problem.pricer.price_plan(plans[-1])
    assert all(last[resource] <= limit for resource, limit in limits.items())


def test_floors_keep_half_of_the_uniform_ratio():
    dense = measure(_network(), EXAMPLE)
    problem = _problem({Resource.macs: 0.3 * dense[Resource.macs].value}, multiple=1)
    floors = problem.floors(dense)
    uniform = {
        name: 2 * floor / problem.grouping.num_channels[name] for name, floor in floors.items()
    }
    assert max(uniform.values()) - min(uniform.values()) <= 0.13
    assert 0.4 < min(uniform.values()) < 0.8
