"""A layer's product at sampled positions is what the layer gives there."""

import pytest
import torch
from torch import nn

from lightning_cost.pruning.reconstruction.patches import (
    is_product,
    outputs_at,
    patches_at,
    sampled_positions,
)

LAYERS = {
    "conv1d": (nn.Conv1d(3, 5, 3, stride=2, padding=1), (4, 3, 11)),
    "conv2d": (nn.Conv2d(3, 5, (3, 2), padding=(1, 0), bias=False), (4, 3, 6, 7)),
    "dilated": (nn.Conv2d(3, 5, 3, dilation=2, padding="same"), (4, 3, 6, 7)),
    "conv3d": (nn.Conv3d(2, 4, 3, stride=(1, 2, 1), padding=1), (2, 2, 4, 5, 3)),
    "linear": (nn.Linear(6, 4), (5, 6)),
    "tokens": (nn.Linear(6, 4), (5, 7, 6)),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("count", [9, 10_000])
def test_patches_times_weight_is_the_output(name, count):
    layer, shape = LAYERS[name]
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    output = layer(inputs)
    positions = sampled_positions(layer, output, count, seed=0)
    places = output.numel() // len(layer.weight)
    assert len(positions) == min(count, places)
    assert len(positions.unique(dim=0)) == len(positions)
    product = patches_at(layer, inputs, positions) @ layer.weight.flatten(1).T
    if layer.bias is not None:
        product = product + layer.bias
    torch.testing.assert_close(product, outputs_at(layer, output, positions))


def test_positions_follow_from_the_seed():
    layer = nn.Conv2d(3, 5, 3)
    output = torch.zeros(4, 5, 6, 6)
    first, again, other = (sampled_positions(layer, output, 9, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.Conv2d(4, 4, 3), True),
        (nn.Linear(4, 4), True),
        (nn.Conv2d(4, 4, 3, groups=2), False),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), False),
        (nn.ConvTranspose2d(4, 4, 3), False),
        (nn.BatchNorm2d(4), False),
    ],
)
def test_which_layers_are_products(layer, expected):
    assert is_product(layer) is expected
