import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import fusion, parametrize

from lightning_cost.network.folding import fold_batch_norms, foldable_pairs


class StandardisedConv(nn.Conv2d):
    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, weight / weight.std((1, 2, 3), keepdim=True), self.bias)


class SamePaddingConv(nn.Conv2d):
    def forward(self, x):
        return self._conv_forward(F.pad(x, (1, 1, 1, 1)), self.weight, self.bias)


class ActivatedNorm(nn.BatchNorm2d):
    def forward(self, x):
        return F.relu(super().forward(x))


class Residual(nn.Module):
    """Adds in place after the batch norm and uses one ReLU twice, as torchvision does."""

    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x
        return self.relu(out)


class Reading(nn.Module):
    """Reads the convolution's output beside the batch norm."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1)
        self.bn = nn.BatchNorm2d(2)

    def forward(self, x):
        y = self.conv(x)
        return self.bn(y) + y


def with_statistics(network):
    """Trained-looking batch norms, in evaluation mode."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats:
            for tensor, low, high in (
                (module.running_mean, -1.0, 1.0),
                (module.running_var, 0.5, 2.0),
                (module.weight, -1.5, 1.5),
                (module.bias, -1.0, 1.0),
            ):
                if tensor is not None:
                    with torch.no_grad():
                        tensor.uniform_(low, high, generator=generator)
    return network.eval()


FOLDABLE = {
    "conv1d": (lambda: nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4)), (3, 2, 9)),
    "conv2d": (
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4)),
        (3, 2, 9, 9),
    ),
    "conv3d": (lambda: nn.Sequential(nn.Conv3d(2, 4, 3), nn.BatchNorm3d(4)), (3, 2, 5, 5, 5)),
    "depthwise": (
        lambda: nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.BatchNorm2d(4)),
        (3, 4, 9, 9),
    ),
    "transposed": (
        lambda: nn.Sequential(nn.ConvTranspose2d(2, 4, 3, bias=False), nn.BatchNorm2d(4)),
        (3, 2, 9, 9),
    ),
    "transposed_groups": (
        lambda: nn.Sequential(nn.ConvTranspose1d(4, 6, 3, groups=2), nn.BatchNorm1d(6)),
        (3, 4, 9),
    ),
    "linear": (lambda: nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)), (3, 5)),
    "no_affine": (
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4, affine=False)),
        (3, 2, 9, 9),
    ),
    "subclass": (
        lambda: nn.Sequential(SamePaddingConv(2, 4, 3, bias=False), nn.BatchNorm2d(4)),
        (3, 2, 9, 9),
    ),
}


@pytest.mark.parametrize("name", FOLDABLE)
def test_folded_network_computes_the_same(name):
    build, shape = FOLDABLE[name]
    torch.manual_seed(0)
    network, x = with_statistics(build()), torch.randn(shape)
    expected = network(x)
    assert foldable_pairs(network, x) == [("0", "1")]
    fold_batch_norms(network, [("0", "1")])
    assert isinstance(network[1], nn.Identity)
    assert torch.allclose(network(x), expected, atol=1e-5)


def test_agrees_with_torch():
    network = with_statistics(nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)))
    expected = fusion.fuse_conv_bn_eval(*copy.deepcopy(network))
    fold_batch_norms(network, [("0", "1")])
    assert torch.allclose(network[0].weight, expected.weight, atol=1e-6)
    assert torch.allclose(network[0].bias, expected.bias, atol=1e-6)


def test_residual_changed_in_place():
    torch.manual_seed(0)
    network, x = with_statistics(nn.Sequential(Residual(4), Residual(4))), torch.randn(2, 4, 5, 5)
    expected = network(x)
    pairs = foldable_pairs(network, x)
    assert pairs == [(f"{block}.conv{i}", f"{block}.bn{i}") for block in "01" for i in "12"]
    fold_batch_norms(network, pairs)
    assert torch.allclose(network(x), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (Reading(), "another reader"),
        (nn.Sequential(StandardisedConv(2, 2, 1), nn.BatchNorm2d(2)), "not linear in its weight"),
        (nn.Sequential(nn.Conv2d(2, 2, 1), ActivatedNorm(2)), "more than a batch norm"),
        (nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU(inplace=True), nn.BatchNorm2d(2)), "changed"),
        (nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU(), nn.BatchNorm2d(2)), "relu between"),
        (nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1)), "norm first"),
        (
            nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2, track_running_stats=False)),
            "no statistics",
        ),
        (nn.Sequential(nn.Linear(4, 4), nn.BatchNorm2d(2)), "another dimension"),
        (nn.Sequential(*[nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)] * 2), "called twice"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_left_alone(network, reason):
    assert foldable_pairs(with_statistics(network), torch.randn(1, 2, 4, 4)) == []


def test_shared_weight_is_left_alone():
    network = nn.Sequential(
        nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)
    )
    network[2].weight = network[0].weight
    assert foldable_pairs(network, torch.randn(1, 2, 4, 4)) == []


def test_parametrized_weight_is_left_alone():
    network = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2))
    parametrize.register_parametrization(network[0], "weight", nn.Identity())
    assert foldable_pairs(network, torch.randn(1, 2, 4, 4)) == []


def test_network_is_left_as_found():
    network, x = Residual(2).train(), torch.randn(1, 2, 4, 4)
    before = copy.deepcopy(network.state_dict())
    foldable_pairs(network, x)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert network.bn1.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


def test_swaps_name_every_parameter_that_came_or_went():
    network = nn.Sequential(
        nn.Conv2d(1, 2, 1, bias=False), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)
    )
    before = set(network.parameters())
    kept = {network[0].weight, network[2].weight, network[2].bias}
    swaps = fold_batch_norms(network, [("0", "1"), ("2", "3")])
    assert {swap.old for swap in swaps if swap.new is None} == before - kept
    assert [swap.new for swap in swaps if swap.old is None] == [network[0].bias]
    assert set(network.parameters()) == kept | {network[0].bias}
    assert len(swaps) == 5


def test_bias_trains_where_the_weight_does():
    network = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.BatchNorm2d(2))
    network[0].weight.requires_grad_(False)
    fold_batch_norms(network, [("0", "1")])
    assert not network[0].bias.requires_grad


def test_another_architecture_is_refused_unchanged():
    network = nn.Sequential(
        nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)
    )
    with pytest.raises(ValueError, match=r"pairs must name a layer .* '2' \(Conv2d\) and '1' "):
        fold_batch_norms(network, [("0", "1"), ("2", "1")])
    assert isinstance(network[1], nn.BatchNorm2d)
    with pytest.raises(ValueError, match=r"got 'conv' \(NoneType\)"):
        fold_batch_norms(network, [("conv", "1")])
