import copy
import math

import pytest
import torch
from torch import nn

from lightning_cost.network.filters import FilterLayout
from lightning_cost.quantization.mixed.harm import (
    rounded_weight,
    rounding_harms,
    with_rounded_weights,
)
from lightning_cost.quantization.schemes.flightnn import FLightNN
from lightning_cost.quantization.schemes.powers import PowerOfTwo
from lightning_cost.quantization.schemes.uniform import Int8, LowBit


def test_harm_is_the_relative_squared_error_of_the_output():
    """Of a linear layer it is known: |(Q - W) x|^2 / |W x|^2."""
    layer, x = nn.Linear(6, 4, bias=False), torch.randn(32, 6)
    network = nn.Sequential(layer)
    schemes = [Int8(), LowBit(bits=3), PowerOfTwo()]
    found = rounding_harms(network, {"0": schemes}, lambda each: each(x))["0"]
    for scheme, harm in zip(schemes, found, strict=True):
        values, scale = scheme.quantize_weight(layer.weight)
        weight = layer.weight.detach()
        error = x @ (values * scale[:, None] - weight).T
        assert harm == pytest.approx(
            float(error.square().sum() / (x @ weight.T).square().sum()), rel=1e-4
        )
    assert found[0] < found[1]


def test_one_layer_at_a_time_and_the_network_is_left_as_it_was():
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.ConvTranspose2d(4, 2, 3)
    ).train()
    before = copy.deepcopy(network.state_dict())
    x = torch.randn(4, 1, 8, 8)
    choices = {"0": [LowBit(bits=2)], "3": [LowBit(bits=2)]}
    found = rounding_harms(network, choices, lambda each: each(x))
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    for name in choices:
        alone = with_rounded_weights(network, {name: LowBit(bits=2)}).eval()
        exact = copy.deepcopy(network).eval()(x)
        error = ((alone(x) - exact).square().sum() / exact.square().sum()).detach()
        assert found[name] == [pytest.approx(float(error), rel=1e-4)]


def test_rounds_filters_of_a_transposed_convolution():
    layer = nn.ConvTranspose2d(4, 6, 3, groups=2)
    rounded = with_rounded_weights(nn.Sequential(layer), {"0": LowBit(bits=3)})[0].weight
    filters = FilterLayout.of(layer).filters_first(rounded)
    assert all(len(each.unique()) <= 7 for each in filters)


def test_flightnn_keeps_its_mean_over_the_layer():
    weight = torch.randn(8, 16)
    rounded = rounded_weight(weight, FLightNN(mean_terms=0.5))
    assert 0 < sum(bool(each.any()) for each in rounded) <= 4


def test_a_scheme_that_breaks_the_output_harms_without_bounds():
    class Fragile(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2, bias=False)
            nn.init.constant_(self.layer.weight, 1.0)
            self.layer.weight.data[0, 0] = 1.003

        def forward(self, x):
            given = self.layer(x)
            return torch.where(self.layer.weight[0, 0] == 1.003, given, given / 0)

    x = torch.ones(3, 2)
    found = rounding_harms(Fragile(), {"layer": [LowBit(bits=2)]}, lambda each: each(x))
    assert found == {"layer": [math.inf]}


@pytest.mark.parametrize("value", [0.0, math.nan])
def test_a_network_that_gives_nothing_cannot_tell(value):
    network = nn.Sequential(nn.Linear(2, 2, bias=False))
    nn.init.constant_(network[0].weight, value)
    with pytest.raises(ValueError, match="network must give finite numbers, not all 0"):
        rounding_harms(network, {"0": [Int8()]}, lambda each: each(torch.ones(1, 2)))
