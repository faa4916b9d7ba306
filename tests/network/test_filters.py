import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lightning_cost.network.filters import FilterLayout


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
def test_first_dimension_is_what_makes_one_output_channel(groups, inputs, outputs):
    layer = nn.ConvTranspose1d(groups * inputs, groups * outputs, 3, groups=groups)
    layout = FilterLayout.of(layer)
    filters = layout.filters_first(layer.weight)
    assert filters.shape == (groups * outputs, inputs, 3)
    assert torch.equal(layout.as_held(filters), layer.weight)
    x = torch.randn(1, groups * inputs, 4)
    expected = layer(x)
    channel = groups * outputs - 1
    kept = torch.zeros(groups * outputs, 1, 1)
    kept[channel] = 1
    with torch.no_grad():
        layer.weight.copy_(layout.as_held(filters.detach() * kept))
        layer.bias.mul_(kept.flatten())
    found = layer(x)
    torch.testing.assert_close(found[:, channel], expected[:, channel])
    assert not found[:, :channel].any()


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(4, 6, 3, groups=2), nn.Linear(3, 2), nn.Embedding(3, 2)]
)
def test_other_layers_have_them_first(layer):
    weight = layer.weight
    assert FilterLayout.of(layer).filters_first(weight) is weight
    assert FilterLayout.of(layer).as_held(weight) is weight
