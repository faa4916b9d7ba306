"""Small networks with what quantisation has to cope with."""

import torch
import torch.nn.functional as F
from torch import nn

from lightning_cost.network.lineage import apply_change
from lightning_cost.quantization.calibrate import calibrate
from lightning_cost.quantization.plan import plan_quantization
from lightning_cost.quantization.rules import QuantizationRules


class PlainConv(nn.Conv2d):
    """A subclass of a user."""


class Block(nn.Module):
    """A residual block with one ReLU module for each use."""

    def __init__(self, in_channels, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv2 = PlainConv(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Conv2d(in_channels, channels, 1)
        self.relu2 = nn.ReLU()

    def forward(self, x):
        return self.relu2(
            self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x))))) + self.shortcut(x)
        )


class TorchvisionBlock(nn.Module):
    """Adds in place, and uses one in-place ReLU twice."""

    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x
        return self.relu(out)


class Functional(nn.Module):
    """Activations are functions, a convolution is called twice."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.repeated = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.last = nn.Linear(4, 3, bias=False)

    def forward(self, image):
        x = F.relu(self.first(image))
        x = F.silu(self.repeated(x))
        x = torch.cat([self.repeated(x), x]).mean((2, 3))
        return self.last(x[: len(image)])


def residual():
    return nn.Sequential(
        Block(1, 4), Block(4, 8), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 3)
    )


def in_place():
    stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
    return nn.Sequential(
        stem,
        nn.MaxPool2d(2),
        TorchvisionBlock(4),
        TorchvisionBlock(4),
        nn.Flatten(),
        nn.Linear(64, 3),
    )


SCHEMES = ("int8", "int4", "power_of_two", "power_of_two_2", "flightnn", "apot")
NETWORKS = {"residual": residual, "in_place": in_place, "functional": Functional}


def trained(name, seed=0):
    """A network of that name with statistics of data in its batch norms, and a batch."""
    torch.manual_seed(seed)
    network, x = NETWORKS[name](), torch.randn(16, 1, 8, 8)
    for _ in range(3):
        network(x)
    return network, x


def prepared(name, seed=0, scheme="int8", **rules):
    """The same, prepared and calibrated."""
    network, x = trained(name, seed)
    apply_change(network, plan_quantization(network, x[:1], scheme, QuantizationRules(**rules)))
    calibrate(network, [x])
    return network, x
