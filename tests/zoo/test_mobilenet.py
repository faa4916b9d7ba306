import pytest
import torch
from torch import nn

from lightning_cost.zoo.mobilenet import InvertedResidual, mobilenet_v2_small


@pytest.mark.parametrize(("image_size", "expected"), [(8, 2), (28, 7), (32, 8)])
def test_divides_the_image_by_four(image_size, expected):
    network = mobilenet_v2_small(width=4, in_channels=1, num_classes=3)
    images = torch.zeros(2, 1, image_size, image_size)
    assert network.head(network.blocks(network.stem(images))).shape[2:] == (expected, expected)
    assert network(images).shape == (2, 3)


def test_channels_follow_the_width():
    network = mobilenet_v2_small(width=16)
    widths = [block.body.project.conv.out_channels for block in network.blocks]
    assert widths == [16, 24, 24, 32, 32, 64, 64, 96]
    assert network.classifier.in_features == 320


def test_each_block_filters_every_channel_by_itself():
    network = mobilenet_v2_small(width=4)
    for block in network.blocks:
        conv = block.body.filter.conv
        assert conv.groups == conv.in_channels == conv.out_channels


def test_blocks_are_residual_exactly_where_shapes_allow():
    network = mobilenet_v2_small(width=4)
    assert [block.is_residual for block in network.blocks] == [
        True, False, True, False, True, False, True, False
    ]  # fmt: skip


def test_residual_block_adds_its_input():
    block = InvertedResidual(4, 4, 6, stride=1).eval()
    nn.init.zeros_(block.body.project.bn.weight)
    x = torch.randn(2, 4, 5, 5)
    torch.testing.assert_close(block(x), x)


def test_every_parameter_gets_a_gradient():
    torch.manual_seed(0)
    network = mobilenet_v2_small(width=4, in_channels=1)
    network(torch.randn(8, 1, 8, 8)).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())


def test_refuses_an_odd_width():
    with pytest.raises(ValueError, match=r"width must be even, got 5"):
        mobilenet_v2_small(width=5)
