import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn

from lightning_cost.network.deploy import deployed_copy
from lightning_cost.quantization.gradual import GradualRounding, round_largest
from lightning_cost.quantization.plan import plan_quantization
from lightning_cost.quantization.rules import QuantizationRules
from lightning_cost.quantization.schemes.registry import get_scheme
from tests.quantization.networks import prepared

INQ = [0.5, 0.75, 0.875, 1.0]
SCHEMES = ["int8", "int4", "power_of_two", "apot"]


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(SCHEMES), st.floats(0.01, 0.99), st.integers(0, 99))
def test_the_largest_share_is_rounded_and_the_rest_passes(scheme, share, seed):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(4, 25, generator=generator).requires_grad_()
    rounding = GradualRounding(get_scheme(scheme), weight).train()
    rounding.round_largest(weight, share)
    is_rounded = rounding.is_rounded
    assert int(is_rounded.sum()) == round(100 * share)
    size = (weight / rounding.scale[:, None]).abs().detach()
    if is_rounded.any() and not is_rounded.all():
        assert size[is_rounded].min() >= size[~is_rounded].max()
    result = rounding(weight).weight
    expected, scale = get_scheme(scheme).quantize_weight(weight, rounding.scale)
    assert torch.equal(result[is_rounded], (expected * scale[:, None])[is_rounded])
    assert torch.equal(result[~is_rounded], weight[~is_rounded])
    result.sum().backward()
    assert torch.equal(weight.grad, (~is_rounded).float())


def test_the_layout_in_memory_changes_nothing():
    weight = torch.randn(4, 6, 3, 3)
    roundings = []
    for each in (weight, weight.to(memory_format=torch.channels_last)):
        roundings.append(GradualRounding(get_scheme("int4"), each))
        roundings[-1].round_largest(each, 0.5)
    plain, last = roundings
    assert not last.is_rounded.is_contiguous()
    assert torch.equal(plain.is_rounded, last.is_rounded)
    assert torch.equal(plain.values, last.values)


def test_what_is_rounded_stays_whatever_the_optimizer_does():
    weight = torch.randn(3, 40)
    rounding = GradualRounding(get_scheme("int4"), weight).train()
    rounding.round_largest(weight, 0.5)
    first, chosen = rounding(weight).weight.clone(), rounding.is_rounded.clone()
    moved = weight + torch.randn(3, 40)
    assert torch.equal(rounding(moved).weight[chosen], first[chosen])
    rounding.round_largest(moved, 0.75)
    assert rounding.is_rounded[chosen].all()
    assert int(rounding.is_rounded.sum()) == 90
    assert torch.equal(rounding(moved).weight[chosen], first[chosen])


@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("name", ["residual", "transposed"])
def test_evaluated_network_is_the_deployed_one_at_every_share(name, share):
    network, x = prepared(name, scheme="power_of_two", gradual=INQ)
    if share:
        round_largest(network, share)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.1)
        expected = network.eval()(x)
        assert torch.equal(deployed_copy(network, x[:1])(x), expected)


def test_copies_get_the_levels_of_the_network_itself():
    network, _ = prepared("residual", scheme="int4", gradual=INQ)
    average = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in average.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    round_largest(network, 1, [average])
    pairs = list(zip(network.modules(), average.modules(), strict=True))
    pairs = [(own, other) for own, other in pairs if isinstance(own, GradualRounding)]
    assert pairs
    for own, other in pairs:
        assert own.is_rounded.all()
        assert torch.equal(own.values, other.values)
        assert own.values is not other.values


def test_an_average_of_equal_levels_is_the_same_level():
    weight = torch.randn(4, 50)
    rounding = GradualRounding(get_scheme("int8"), weight)
    rounding.round_largest(weight, 1.0)
    average = AveragedModel(rounding, avg_fn=get_ema_avg_fn(0.9), use_buffers=True)
    expected = rounding(weight).values
    for _ in range(20):
        average.update_parameters(rounding)
    assert torch.equal(average.module(weight).values, expected)


def test_levels_of_older_checkpoints_are_loaded():
    weight = torch.randn(4, 50)
    rounding, fresh = (GradualRounding(get_scheme("int8"), weight) for _ in range(2))
    rounding.round_largest(weight, 0.5)
    state = rounding.state_dict()
    fresh.load_state_dict({**state, "values": state["values"].to(torch.int8)})
    assert torch.equal(fresh(weight).weight, rounding(weight).weight)


def test_terms_that_are_decided_in_training_are_refused():
    network, x = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.Linear(4, 4)), torch.zeros(1, 4)
    rules = QuantizationRules(gradual=INQ, overrides={"2": "flightnn"})
    message = "gradual must be empty where a scheme decides on terms .* flightnn for 2; take power"
    with pytest.raises(ValueError, match=message):
        plan_quantization(network, x, "int4", rules)
