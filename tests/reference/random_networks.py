"""Small random networks of every supported kind, drawn by Hypothesis."""

import torch
from hypothesis import strategies as st
from torch import nn

IMAGE = (2, 2, 6, 6)


class Residual(nn.Module):
    def __init__(self, channels, hidden):
        super().__init__()
        self.body = nn.Sequential(conv(channels, hidden), nn.ReLU(), conv(hidden, channels))

    def forward(self, x):
        return torch.relu(x + self.body(x))


class Concat(nn.Module):
    def __init__(self, channels, left, right):
        super().__init__()
        self.left, self.right = conv(channels, left), conv(channels, right)

    def forward(self, x):
        return torch.cat([self.left(x), self.right(x).relu()], dim=1)


class ConcatResidual(nn.Module):
    """Channels of one convolution meet those of two others."""

    def __init__(self, channels, left, right):
        super().__init__()
        self.branches = Concat(channels, left, right)
        self.shortcut = conv(channels, left + right)

    def forward(self, x):
        return torch.relu(self.shortcut(x) + self.branches(x))


class NarrowConv(nn.Conv2d):
    """A user's own kind of convolution."""


def conv(in_channels, out_channels, *, kernel=3, groups=1):
    layer = NarrowConv(
        in_channels, out_channels, kernel, padding=kernel // 2, groups=groups, bias=False
    )
    return nn.Sequential(layer, nn.BatchNorm2d(out_channels))


def depthwise(channels, out_channels):
    return nn.Sequential(
        conv(channels, channels, groups=channels),
        nn.ReLU6(),
        conv(channels, out_channels, kernel=1),
    )


@st.composite
def networks(draw, *, max_blocks=3):
    """A network in evaluation mode, with batch-norm statistics of a trained one."""
    widths = st.integers(2, 6)
    width = draw(widths)
    layers = [nn.Conv2d(2, width, 3, padding=1), nn.PReLU(width)]
    for kind in draw(st.lists(st.sampled_from(_BLOCKS), max_size=max_blocks)):
        layer, width = kind(width, draw(widths), draw(widths))
        layers += [layer, nn.ReLU()]
    if draw(st.booleans()):
        layers += [nn.MaxPool2d(2), nn.Flatten(), nn.Linear(9 * width, 5), nn.BatchNorm1d(5)]
    else:
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5), nn.GELU()]
    network = nn.Sequential(*layers, nn.Linear(5, 3))
    return randomised(network, seed=draw(st.integers(0, 99))).eval()


@torch.no_grad()
def randomised(network, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def uniform(tensor, low, high):
        tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    for parameter in network.parameters():
        uniform(parameter, -1, 1)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            if module.affine:
                uniform(module.weight, 0.5, 1.5)
            if module.running_mean is not None:
                uniform(module.running_mean, -0.5, 0.5)
                uniform(module.running_var, 0.5, 2.0)
    return network


def images(seed=0, shape=IMAGE):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _plain(width, a, b):
    return conv(width, a), a


def _residual(width, a, b):
    return Residual(width, a), width


def _concat(width, a, b):
    return Concat(width, a, b), a + b


def _concat_residual(width, a, b):
    return ConcatResidual(width, a, b), a + b


def _depthwise(width, a, b):
    return depthwise(width, a), a


_BLOCKS = [_plain, _residual, _concat, _concat_residual, _depthwise]
