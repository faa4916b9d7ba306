"""What is asked of a network before it is pruned."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lightning_cost.cost.measurement import Measurement, Method
from lightning_cost.cost.resource import Resource
from lightning_cost.hardware.device import Hardware
from lightning_cost.monitor.measure import measure
from lightning_cost.pruning.ranking import GlobalRanking
from lightning_cost.pruning.saliency import group_saliency
from lightning_cost.pruning.schedule import PruningSchedule
from lightning_cost.pruning.steps import step_plans
from lightning_cost.pruning.structure.plan import Plan
from lightning_cost.pruning.structure.surgery import operated, removal
from lightning_cost.pruning.target import problem as problems
from lightning_cost.pruning.target.channels import ChannelRules
from lightning_cost.pruning.target.problem import PruningProblem

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
        dense_cost=measure(_network(), EXAMPLE),
    )


def test_heads_count_by_the_channels_in_them():
    network = nn.TransformerEncoderLayer(
        64, nhead=4, dim_feedforward=96, batch_first=True, dropout=0.0
    )
    tokens = torch.randn(1, 5, 64)
    problem = PruningProblem.of(
        network,
        tokens,
        rules=ChannelRules(multiple=8),
        limits={Resource.params: 0.6 * sum(weight.numel() for weight in network.parameters())},
        preview=lambda network: network,
        hardware=None,
        dense_cost=measure(network, tokens),
    )
    widths = {group.num_channels: group.name for group in problem.grouping.groups}
    heads, inner = widths[4], widths[96]
    assert problem.steps == {heads: 1, inner: 8}
    scores = {
        name: tuple(map(float, range(n))) for name, n in problem.grouping.num_channels.items()
    }
    path = GlobalRanking(scores=scores).path(problem.lowest_floors(), problem.steps)
    column = path.widths[:, path.names.index(heads)]
    assert set(column.tolist()) == {1, 2, 3, 4}
    plan = step_plans(problem, GlobalRanking(scores=scores), PruningSchedule(num_steps=1))[-1]
    assert plan.widths[heads] < 4
    assert plan.widths[inner] % 8 == 0


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
    plans = step_plans(problem, ranking, PruningSchedule(num_steps=3))
    assert len(plans) == 3
    for smaller, larger in zip(plans[1:], plans, strict=False):
        assert smaller.is_within(larger)
    assert plans[0] != Plan.dense(problem.grouping)
    last = problem.pricer.price_plan(plans[-1])
    assert all(last[resource] <= limit for resource, limit in limits.items())


DESCRIBED = replace(Hardware.load("raspberry_pi_4"), power_w=5.0, price_usd_per_hour=0.01)
EVERYTHING = [
    Resource.macs,
    Resource.params,
    Resource.size_bytes,
    Resource.peak_memory_bytes,
    Resource.latency_ms,
    Resource.energy_mj,
    Resource.usd_per_million,
]


@pytest.mark.parametrize("shape", ["cubic", "linear"])
@pytest.mark.parametrize("num_steps", [1, 2, 4, 5])
def test_every_step_has_something_to_remove(shape, num_steps):
    dense = measure(_network(), EXAMPLE)
    problem = _problem({Resource.macs: 0.5 * dense[Resource.macs].value})
    ranking = GlobalRanking.transformed(group_saliency(problem.network, problem.grouping))
    plans = step_plans(problem, ranking, PruningSchedule(num_steps=num_steps, shape=shape))
    sizes = [sum(plan.widths.values()) for plan in plans]
    assert len(plans) == num_steps
    assert sizes == sorted(set(sizes), reverse=True)
    assert sizes[0] < sum(problem.grouping.num_channels.values())


def _on_device(shares, hardware=DESCRIBED, **rules):
    """A problem with limits at these shares of the dense cost."""
    network = _network()
    dense = measure(network, EXAMPLE, hardware=hardware)
    problem = PruningProblem.of(
        network,
        EXAMPLE,
        rules=ChannelRules(**({"multiple": 1} | rules)),
        limits={resource: share * dense[resource].value for resource, share in shares.items()},
        preview=lambda network: network,
        hardware=hardware,
        dense_cost=dense,
    )
    return problem, dense


def _final(problem, dense):
    ranking = GlobalRanking.transformed(group_saliency(problem.network, problem.grouping))
    plan = step_plans(problem, ranking, PruningSchedule(num_steps=2))[-1]
    return problem.cost_of(plan)


@settings(max_examples=12, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(EVERYTHING), st.floats(0.35, 0.9), min_size=1, max_size=len(EVERYTHING)
    )
)
def test_any_mix_of_limits_is_kept_and_the_tightest_is_full(shares):
    problem, dense = _on_device(shares)
    smallest = problem.cost_of(problem.smallest())
    if any(smallest[resource].value > limit for resource, limit in problem.limits.items()):
        with pytest.raises(ValueError, match="nearest reachable"):
            problem.require_reachable()
        return
    problem.require_reachable()
    cost = _final(problem, dense)
    fills = {resource: cost[resource].value / limit for resource, limit in problem.limits.items()}
    assert max(fills.values()) <= 1
    if Resource.peak_memory_bytes not in shares:  # which falls in long steps
        assert max(fills.values()) >= 0.95


@pytest.mark.parametrize("resource", EVERYTHING)
def test_each_resource_out_of_reach_is_named_with_what_is_in_reach(resource):
    problem, _ = _on_device({resource: 1e-3}, multiple=8)
    nearest = problem.cost_of(problem.smallest())[resource].value
    with pytest.raises(
        ValueError, match=rf"{resource} <= .*\(nearest reachable: {re.escape(f'{nearest:g}')} "
    ):
        problem.require_reachable()


def test_of_several_limits_only_those_out_of_reach_are_named():
    problem, _ = _on_device({Resource.macs: 1e-3, Resource.params: 0.9, Resource.latency_ms: 1e-3})
    with pytest.raises(ValueError, match=r"macs <= .*; latency_ms <= ") as caught:
        problem.require_reachable()
    assert "params" not in str(caught.value)


@settings(max_examples=15, deadline=None)
@given(st.floats(0.2, 1), st.floats(0.5, 1))
def test_a_tighter_budget_never_costs_more(share, tighter):
    costs = []
    for ratio in (share, share * tighter):
        problem, dense = _on_device({Resource.macs: ratio}, min_keep_ratio=0.0)
        cost = _final(problem, dense)[Resource.macs].value
        assert cost <= problem.limits[Resource.macs]
        costs.append(cost)
    assert costs[1] <= costs[0]


class StairMeter:
    """Measures a latency that grows with every fourth channel, with noise."""

    is_noisy = True

    def __init__(self, dense, example, hardware, dense_latency):
        self.dense_ms, self.generator = dense_latency.value, np.random.default_rng(0)
        self.dense_stairs = self.stairs(dense)

    def __enter__(self):
        return self

    def __exit__(self, *details):
        pass

    @staticmethod
    def stairs(network):
        sizes = [layer.weight.shape[:2] for layer in network if hasattr(layer, "weight")]
        return sum(-(-outs // 4) * -(-ins // 4) for outs, ins in sizes)

    def read(self, name, network):
        share = self.stairs(network) / self.dense_stairs * self.generator.normal(1, 0.003)
        latency = Measurement(value=share * self.dense_ms, unit="ms", method=Method.measured)
        return {Resource.latency_ms: latency}


@pytest.mark.parametrize("share", [0.7, 0.5, 0.35])
def test_measured_latency_is_filled_and_kept_with_counted_limits(monkeypatch, share):
    monkeypatch.setattr(problems, "DeviceMeter", StairMeter)
    limits = {Resource.latency_ms: share, Resource.params: 0.95}
    problem, _ = _on_device(limits, hardware=Hardware.local("eager"))
    problem.require_reachable()
    ranking = GlobalRanking.transformed(group_saliency(problem.network, problem.grouping))
    plan = step_plans(problem, ranking, PruningSchedule(num_steps=2))[-1]
    final = operated(problem.network, removal(problem.grouping, plan))
    assert 0.95 <= StairMeter.stairs(final) / StairMeter.stairs(problem.network) / share <= 1
    assert problem.pricer.price_plan(plan)[Resource.params] <= problem.limits[Resource.params]


def test_a_measured_limit_out_of_reach_leaves_room_for_noise(monkeypatch):
    monkeypatch.setattr(problems, "DeviceMeter", StairMeter)
    problem, _ = _on_device({Resource.latency_ms: 0.001}, hardware=Hardware.local("eager"))
    smallest = operated(problem.network, removal(problem.grouping, problem.smallest()))
    ratio = StairMeter.stairs(smallest) / StairMeter.stairs(problem.network)
    with pytest.raises(ValueError, match=r"latency_ms <= \S+ ms \(nearest reachable: ") as caught:
        problem.require_reachable()
    nearest = float(re.search(r"reachable: (\S+) ms", str(caught.value))[1])
    dense = problem.dense_cost[Resource.latency_ms].value
    assert nearest == pytest.approx(1.02 * ratio * dense, rel=0.01)


def test_floors_keep_half_of_the_uniform_ratio():
    dense = measure(_network(), EXAMPLE)
    problem = _problem({Resource.macs: 0.3 * dense[Resource.macs].value}, multiple=1)
    floors = problem.floors()
    uniform = {
        name: 2 * floor / problem.grouping.num_channels[name] for name, floor in floors.items()
    }
    assert max(uniform.values()) - min(uniform.values()) <= 0.13
    assert 0.4 < min(uniform.values()) < 0.8
