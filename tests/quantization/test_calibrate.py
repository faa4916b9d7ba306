import copy
import math

import pytest
import torch
from torch import nn

from lightning_cost.network.lineage import apply_change
from lightning_cost.quantization.calibrate import calibrate
from lightning_cost.quantization.fake_quantizers import activation_fake_quantizers
from lightning_cost.quantization.observers import OBSERVERS
from lightning_cost.quantization.plan import plan_quantization
from lightning_cost.quantization.rules import QuantizationRules
from tests.quantization.networks import prepared


def test_ranges_are_those_of_the_data():
    network = nn.Sequential(nn.Linear(2, 2))
    apply_change(network, plan_quantization(network, torch.zeros(1, 2)))
    batches = [torch.tensor([[-1.0, 2.0]]), torch.tensor([[-3.0, 6.0]])]
    calibrate(network, [torch.tensor([[-100.0, 100.0]])])
    calibrate(network, batches)  # from these alone
    quantizer = network[0].input_fake_quantizer
    assert (quantizer.min_value, quantizer.max_value) == (-2, 4)
    assert quantizer.num_observed == 2


def test_leaves_the_rest_as_it_was():
    network, x = prepared("residual")
    network.train()
    before = copy.deepcopy(network.state_dict())
    random = torch.get_rng_state()
    calibrate(network, [3 * x])
    changed = {n for n, value in network.state_dict().items() if not torch.equal(value, before[n])}
    assert {name.rpartition(".")[2] for name in changed} == {"min_value", "max_value"}
    assert all(module.training for module in network.modules())
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], r"batches must hold at least one .* got none at '0\.input_fake_quantizer'"),
        ([torch.tensor([[1.0, float("nan")]])], r"activations must be finite, got \[nan, nan\]"),
        ([torch.tensor([[1.0, float("inf")]])], r"activations must be finite, got \[1.0, inf\]"),
    ],
)
def test_bad_data_leaves_the_ranges(batches, message):
    network = nn.Sequential(nn.Linear(2, 2))
    apply_change(network, plan_quantization(network, torch.zeros(1, 2)))
    calibrate(network, [torch.ones(1, 2)])
    with pytest.raises(ValueError, match=message):
        calibrate(network, batches)
    (quantizer,) = activation_fake_quantizers(network).values()
    assert quantizer.max_value == 1
    assert not quantizer.is_calibrating


@pytest.mark.parametrize("observer", OBSERVERS)
def test_infinity_is_told_as_what_it_is_whatever_comes_after(observer):
    network = nn.Sequential(nn.Linear(2, 2))
    rules = QuantizationRules(observer=observer)
    apply_change(network, plan_quantization(network, torch.zeros(1, 2), rules=rules))
    batches = torch.tensor([[-1.0, 2], [-1, math.inf], [-1, 2], [-1, 1]]).unsqueeze(1)
    with pytest.raises(ValueError, match=r"must be finite, got \[-[\d.]+, inf\] .* infinity in"):
        calibrate(network, batches)


def test_error_in_the_network_leaves_the_ranges():
    network, x = prepared("functional")
    before = network.eval()(x)
    with pytest.raises(ValueError, match="example must have the shape that the network takes"):
        calibrate(network, [x, torch.randn(2, 5, 8, 8)])
    assert torch.equal(network(x), before)


def test_unprepared_network():
    with pytest.raises(ValueError, match="network must be prepared for quantisation, got one"):
        calibrate(nn.Linear(1, 1), [torch.zeros(1, 1)])
