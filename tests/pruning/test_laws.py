"""What holds for every network, plan and ranking."""

import copy

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from lightning_cost.cost.macs import count_macs
from lightning_cost.cost.memory import peak_memory_bytes
from lightning_cost.cost.resource import Resource
from lightning_cost.cost.size import count_params, size_bytes
from lightning_cost.network.deploy import deployed_copy
from lightning_cost.network.lineage import apply_change
from lightning_cost.pruning.pricing.pricer import WidthPricer
from lightning_cost.pruning.ranking import GlobalRanking
from lightning_cost.pruning.saliency import group_saliency, normalised
from lightning_cost.pruning.structure.groups import channel_groups
from lightning_cost.pruning.structure.plan import masked
from lightning_cost.pruning.structure.surgery import operated, removal
from lightning_cost.quantization.calibrate import calibrate
from lightning_cost.quantization.plan import plan_quantization
from tests.reference.plans import plans
from tests.reference.random_networks import images, networks

law = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@law
@given(st.data())
def test_masked_is_operated(data):
    network = data.draw(networks())
    grouping = channel_groups(network, images())
    plan = data.draw(plans(grouping))
    with torch.no_grad():
        expected = masked(network, grouping, plan)(images(1))
        found = operated(network, removal(grouping, plan))(images(1))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


@law
@given(st.data())
def test_two_steps_are_one(data):
    network = data.draw(networks())
    grouping = channel_groups(network, images())
    first = data.draw(plans(grouping))
    second = data.draw(plans(grouping, within=first))
    once = operated(network, removal(grouping, second))
    twice = operated(operated(network, removal(grouping, first)), removal(grouping, second, first))
    state = twice.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in once.state_dict().items())


@law
@given(st.data())
def test_predicted_cost_is_counted_cost_after_surgery(data):
    network = data.draw(networks())
    grouping = channel_groups(network, images())
    plan = data.draw(plans(grouping))
    predicted = WidthPricer.from_network(network, images(), grouping).price_plan(plan)
    deployed = deployed_copy(operated(network, removal(grouping, plan)), images())
    macs = count_macs(deployed, images()).total
    assert predicted == {
        Resource.macs: macs,
        Resource.flops: 2 * macs,
        Resource.params: count_params(deployed),
        Resource.size_bytes: size_bytes(deployed),
        Resource.peak_memory_bytes: peak_memory_bytes(deployed, images()),
    }


@law
@given(st.data())
def test_removing_a_channel_never_raises_a_cost(data):
    network = data.draw(networks())
    grouping = channel_groups(network, images())
    pricer = WidthPricer.from_network(network, images(), grouping)
    larger = data.draw(plans(grouping))
    smaller = data.draw(plans(grouping, within=larger))
    before, after = pricer.price_plan(larger), pricer.price_plan(smaller)
    assert all(after[resource] <= before[resource] for resource in before)


@law
@given(st.data())
def test_a_tighter_budget_never_keeps_more(data):
    network = data.draw(networks())
    grouping = channel_groups(network, images())
    pricer = WidthPricer.from_network(network, images(), grouping)
    ranking = GlobalRanking.transformed(normalised(group_saliency(network, grouping)))
    path = ranking.path(steps=dict.fromkeys(ranking.scores, data.draw(st.integers(1, 4))))
    dense = pricer.price(path.widths[:1])
    resource = data.draw(st.sampled_from(list(dense)))
    shares = sorted(data.draw(st.tuples(st.floats(0, 1), st.floats(0, 1))))
    tight, loose = (
        path.first_within(pricer, {resource: share * dense[resource][0]}) for share in shares
    )
    if tight is not None:
        assert loose is not None
        assert path.plan_at(tight).is_within(path.plan_at(loose))
        assert pricer.price_plan(path.plan_at(tight))[resource] <= shares[0] * dense[resource][0]


@law
@given(networks())
def test_the_network_is_left_as_it_was_found(network):
    network.train()
    network[0].weight.requires_grad_(False)
    network[-1].weight.grad = torch.ones_like(network[-1].weight)
    before = copy.deepcopy(network.state_dict())
    parameters = [(id(p), p.requires_grad, p.grad) for p in network.parameters()]
    grouping = channel_groups(network, images())
    WidthPricer.from_network(network, images(), grouping)
    group_saliency(network, grouping)
    assert [(id(p), p.requires_grad, p.grad) for p in network.parameters()] == parameters
    assert all(module.training for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    hooks = [m for m in network.modules() if m._forward_hooks or m._forward_pre_hooks]
    assert hooks == []


@law
@given(st.data())
def test_every_index_is_a_partition(data):
    network = data.draw(networks())
    grouping = channel_groups(network, images())
    seen = set()
    for group in grouping.groups:
        for member in group.members:
            assert len(member.index) == group.num_channels
            for position in member.positions(range(group.num_channels)):
                assert (member.module, member.axis, position) not in seen
                seen.add((member.module, member.axis, position))
    layers = {
        name
        for name, module in network.named_modules()
        if isinstance(module, (nn.Linear, nn.Conv2d))
    }
    named = {member.module for group in grouping.groups for member in group.members}
    assert layers <= named | set(grouping.left_alone)
    assert set(grouping.left_alone) == {f"{len(network) - 1}"}


@settings(parent=law, max_examples=15)
@given(st.data())
def test_predicted_size_counts_packed_integers(data):
    """Whatever the bits are, and though the parts are not whole numbers of bytes."""
    network = data.draw(networks())
    scheme = data.draw(st.sampled_from(["int3", "int5", "int8", "power_of_two", "flightnn"]))
    grouping = channel_groups(network, images())

    def preview(pruned):
        apply_change(pruned, plan_quantization(pruned, images(), scheme))
        calibrate(pruned, [images()])
        return pruned

    plan = data.draw(plans(grouping))
    pricer = WidthPricer.from_network(network, images(), grouping, preview)
    deployed = deployed_copy(preview(operated(network, removal(grouping, plan))), images())
    assert pricer.price_plan(plan)[Resource.size_bytes] == size_bytes(deployed)
