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


class Gated(nn.Conv2d):
    """A convolution that takes several inputs."""

    def forward(self, x, gate, bias=None):
        return super().forward(x) * gate


class SeveralInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3)
        self.gated = Gated(4, 4, 3)
        self.last = nn.Linear(4, 3)

    def forward(self, x):
        x = F.relu(self.first(x))
        return self.last(self.gated(x, gate=x.mean((1, 2, 3), keepdim=True)).mean((2, 3)))


class Transformer(nn.Module):
    """Tokens, self-attention, and attention of one query to the tokens of another width."""

    def __init__(self, batch_first=True):
        super().__init__()
        self.embedding = nn.Embedding(10, 8, padding_idx=0)
        self.encoder = nn.TransformerEncoderLayer(
            8, 2, dim_feedforward=16, dropout=0.0, batch_first=batch_first
        )
        self.cross = nn.MultiheadAttention(8, 2, kdim=8, vdim=6, batch_first=True)
        self.same = nn.MultiheadAttention(8, 2, batch_first=True)
        self.query = nn.Linear(8, 8)
        self.value = nn.Linear(8, 6)
        self.last = nn.Linear(8, 3)

    def forward(self, image):
        tokens = (4 + 2 * image[:, 0, :3].flatten(1)).long().clamp(0, 9)
        x = self.encoder(self.embedding(tokens))
        query = self.query(x[:, :2])
        mixed, _ = self.cross(query, x, self.value(x), need_weights=False)
        mixed, weights = self.same(mixed, x, x, key_padding_mask=tokens == 0)
        return self.last(mixed.mean(1) + weights.mean())


def transposed():
    """An upsampling of each kind: plain, grouped, depthwise, one-dimensional, three-dimensional."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(4, 6, 3, stride=2, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.ConvTranspose2d(6, 4, 2, groups=2),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.ConvTranspose2d(4, 4, 2, groups=4),
        nn.Flatten(2),
        nn.ConvTranspose1d(4, 2, 2),
        nn.BatchNorm1d(2),
        nn.Flatten(1),
        nn.Unflatten(1, (2, 2, 61, 1)),
        nn.ConvTranspose3d(2, 2, (1, 1, 2), groups=2),
        nn.Flatten(),
        nn.Linear(488, 3),
    )


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
NETWORKS = {
    "residual": residual,
    "in_place": in_place,
    "functional": Functional,
    "several_inputs": SeveralInputs,
    "transformer": Transformer,
    "transposed": transposed,
}


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
