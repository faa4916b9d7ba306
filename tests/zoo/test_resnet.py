import pytest
import torch
from torch import nn

from lightning_cost.zoo.resnet import BasicBlock, resnet8, resnet20, resnet56


def num_params(network):
    return sum(parameter.numel() for parameter in network.parameters())


# the paper's 0.27 M and 0.85 M parameters, plus 2,752 for the two projection shortcuts
@pytest.mark.parametrize(
    ("build", "expected"), [(resnet20, 269_722 + 2_752), (resnet56, 853_018 + 2_752)]
)
def test_has_the_published_number_of_parameters(build, expected):
    assert num_params(build()) == expected


@pytest.mark.parametrize(("build", "depth"), [(resnet8, 8), (resnet20, 20), (resnet56, 56)])
def test_depth_is_the_number_of_layers_beside_the_shortcuts(build, depth):
    network = build(width=2)
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    shortcuts = [
        m
        for block in network.modules()
        if isinstance(block, BasicBlock)
        for m in block.shortcut
        if isinstance(m, nn.Conv2d)
    ]
    assert len(layers) - len(shortcuts) == depth
    assert len(shortcuts) == 2


@pytest.mark.parametrize("image_size", [8, 28, 32])
def test_gives_one_row_of_logits_for_each_image(image_size):
    images = torch.zeros(3, 2, image_size, image_size)
    assert resnet8(width=4, in_channels=2, num_classes=7)(images).shape == (3, 7)


def test_every_leaf_module_runs_exactly_once():
    network = resnet20(width=2, in_channels=1)
    calls = {}
    leaves = {name: m for name, m in network.named_modules() if not list(m.children())}
    for name, module in leaves.items():
        module.register_forward_hook(
            lambda *_, name=name: calls.update({name: calls.get(name, 0) + 1})
        )
    network(torch.zeros(2, 1, 8, 8))
    # an identity shortcut is an empty Sequential, and runs too
    assert calls == dict.fromkeys(leaves, 1)


def test_identity_block_adds_its_input():
    block = BasicBlock(3, 3, stride=1).eval()
    nn.init.zeros_(block.body.bn2.weight)
    x = torch.rand(2, 3, 5, 5)
    torch.testing.assert_close(block(x), x)


def test_every_parameter_gets_a_gradient():
    network = resnet8(width=4, in_channels=1)
    network(torch.randn(4, 1, 8, 8)).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())


def test_signals_keep_their_scale_at_initialisation():
    torch.manual_seed(0)
    features = resnet56(width=64).eval().stem(torch.randn(8, 3, 16, 16)).detach()
    # half of the outputs are cut off, the other half have variance 2; edges see fewer pixels
    assert float(features.square().mean()) == pytest.approx(1, rel=0.2)


@pytest.mark.parametrize("argument", ["width", "in_channels", "num_classes"])
def test_refuses_an_impossible_size(argument):
    with pytest.raises(ValueError, match=rf"{argument} must be >= 1, got 0; give a positive"):
        resnet8(**{argument: 0})
