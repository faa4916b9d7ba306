"""Networks along a ranking: their costs are those of the networks that are built."""

import copy

import pytest
import torch

from lightning_cost.cost.measurement import Measurement, Method
from lightning_cost.cost.resource import Resource
from lightning_cost.hardware.device import Hardware
from lightning_cost.monitor.measure import measure
from lightning_cost.pruning.ranking import GlobalRanking
from lightning_cost.pruning.reconstruction.least_squares import Reconstruction
from lightning_cost.pruning.saliency import group_saliency
from lightning_cost.pruning.structure.surgery import operated, removal
from lightning_cost.pruning.target.channels import ChannelRules
from lightning_cost.pruning.target.problem import PruningProblem
from lightning_cost.recipe.frontier import accuracy_judge, frontier
from lightning_cost.zoo.resnet import resnet8

EXAMPLE = torch.zeros(1, 1, 8, 8)


def problem_of(network, hardware=None, **rules):
    return PruningProblem.of(
        network,
        EXAMPLE,
        rules=ChannelRules(**({"multiple": 2} | rules)),
        limits={},
        preview=lambda cut: cut,
        hardware=hardware,
        dense_cost=measure(network, EXAMPLE),
    )


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return resnet8(width=8, in_channels=1).eval()


@pytest.fixture(scope="module")
def problem(network):
    return problem_of(network)


@pytest.fixture(scope="module")
def ranking(problem):
    saliency = group_saliency(problem.network, problem.grouping, "l2")
    return GlobalRanking.transformed(saliency)


def test_costs_are_those_of_the_networks_that_the_plans_make(problem, ranking):
    points = frontier(problem, ranking, ratios=(0.75, 0.5, 0.25))
    dense = measure(problem.network, EXAMPLE)[Resource.macs].value
    for point, ratio in zip(points, (0.75, 0.5, 0.25), strict=True):
        built = operated(problem.network, removal(problem.grouping, point.plan))
        counted = measure(built, EXAMPLE)
        assert {r: m.value for r, m in point.cost.items()} == {
            r: counted[r].value for r in point.cost
        }
        assert {m.method for m in point.cost.values()} == {Method.exact}
        assert 0.85 * ratio * dense < point.cost[Resource.macs].value <= ratio * dense
        assert point.metrics == {}
    assert {Resource.macs, Resource.params, Resource.size_bytes, Resource.peak_memory_bytes} < set(
        points[0].cost
    )


def test_metrics_are_of_recalibrated_networks_and_nothing_else_changes(network, ranking):
    before = copy.deepcopy(network.state_dict())
    torch.manual_seed(1)
    batches = [(torch.randn(16, 1, 8, 8) * 3 + 1, torch.zeros(16, dtype=torch.long))]
    problem, seen = problem_of(network), []

    def judge(cut):
        assert not cut.training
        seen.append({name: value.clone() for name, value in cut.state_dict().items()})
        return {"mean": float(len(seen))}

    points = frontier(problem, ranking, ratios=(0.6, 0.3), calibration=batches, judge=judge)
    assert [point.metrics for point in points] == [{"mean": 1.0}, {"mean": 2.0}]
    for point, state in zip(points, seen, strict=True):
        conv = operated(network, removal(problem.grouping, point.plan)).stem.conv
        torch.testing.assert_close(state["stem.conv.weight"], conv.weight)
        wanted = conv(batches[0][0]).mean(dim=(0, 2, 3))
        torch.testing.assert_close(state["stem.bn.running_mean"], wanted, atol=1e-5, rtol=1e-4)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_layers_are_fitted_again_where_that_is_asked_for(network, problem, ranking):
    torch.manual_seed(2)
    batch = (torch.randn(64, 1, 8, 8), torch.zeros(64, dtype=torch.long))
    reconstruction = Reconstruction(network, batch, lambda net, given: net(given[0]))

    def judge(cut):
        with torch.no_grad():
            return {"error": float((cut(batch[0]) - network(batch[0])).square().mean())}

    given = {"ratios": (0.6,), "calibration": [batch], "judge": judge}
    (plain,) = frontier(problem, ranking, **given)
    (fitted,) = frontier(problem, ranking, **given, reconstruction=reconstruction)
    assert fitted.metrics["error"] < 0.7 * plain.metrics["error"]


def test_shares_out_of_reach_are_left_out(problem, ranking, network):
    assert [p.plan.keep_ratio for p in frontier(problem, ranking, ratios=(0.001,))] == []
    protected = problem_of(network, min_keep_ratio=0.7)
    few = frontier(protected, ranking, ratios=(0.9, 0.7, 0.5, 0.3))
    assert 0 < len(few) < 4
    totals = protected.grouping.num_channels
    assert all(
        width >= 0.7 * totals[name] for point in few for name, width in point.plan.widths.items()
    )


def test_the_whole_share_is_the_dense_network(problem, ranking):
    (point,) = frontier(problem, ranking, ratios=(1.0,))
    assert point.plan.keep_ratio == 1.0
    assert point.to_dict()["cost"]["macs"]["value"] == point.cost[Resource.macs].value


def test_a_described_device_is_predicted(network, ranking):
    hardware = Hardware.load("raspberry_pi_4")
    problem = problem_of(network, hardware)
    for point in frontier(problem, ranking, ratios=(0.5, 0.25)):
        built = operated(network, removal(problem.grouping, point.plan))
        expected = measure(built, EXAMPLE, hardware=hardware)
        latency = point.cost[Resource.latency_ms]
        assert latency.value == pytest.approx(expected[Resource.latency_ms].value, rel=1e-6)
        assert (latency.method, latency.device) == (Method.estimated, hardware.name)
        assert latency.model == "roofline"
        assert isinstance(point.cost[Resource.energy_mj], Measurement)


@pytest.mark.parametrize("ratio", [0.0, -0.5, 1.5])
def test_ratios_out_of_range(problem, ranking, ratio):
    with pytest.raises(ValueError, match=r"ratios must lie in \(0, 1\], got "):
        frontier(problem, ranking, ratios=(ratio,))


def test_accuracy_judge_takes_no_more_batches_than_it_needs():
    given = [(torch.eye(3)[[0, 1, 2, 2]], torch.tensor([0, 1, 0, 2])) for _ in range(3)]
    taken = iter(given)
    judge = accuracy_judge("acc", taken, 5)
    assert len(list(taken)) == 1
    assert judge(torch.nn.Identity()) == {"acc": 0.75}
