"""Networks whose weights are not simply one tensor of one layer."""

import warnings

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from tests.gauntlet.strange.case import Case, drawn, head, image, row


class SharedLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(8, 12), nn.Linear(12, 12), nn.Linear(12, 3)

    def forward(self, x):
        x = self.first(x).relu()
        for _ in range(3):
            x = x + self.middle(x).tanh()
        return self.last(x)


class SharedConvolution(nn.Module):
    """One convolution, a batch norm for each of its two uses."""

    def __init__(self):
        super().__init__()
        self.stem, self.shared = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.norms = nn.ModuleList([nn.BatchNorm2d(8), nn.BatchNorm2d(8)])
        self.end = nn.Sequential(*head(8))

    def forward(self, x):
        x = self.stem(x)
        for norm in self.norms:
            x = norm(self.shared(x)).relu()
        return self.end(x)


class TwoNames(nn.Module):
    """One layer that is registered twice."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Conv2d(3, 8, 3)
        self.alias = self.encoder
        self.end = nn.Sequential(*head(8))

    def forward(self, x):
        return self.end(self.alias(x).relu())


class TiedTable(nn.Module):
    """The output layer has the weight of the embedding."""

    def __init__(self):
        super().__init__()
        self.table, self.body = nn.Embedding(11, 8), nn.Linear(8, 8)
        self.out = nn.Linear(8, 11, bias=False)
        self.out.weight = self.table.weight

    def forward(self, ids):
        return self.out(self.body(self.table(ids)).relu())


class TiedLinears(nn.Module):
    """Two layers of one weight, each with a bias of its own."""

    def __init__(self):
        super().__init__()
        self.first, self.one, self.two = nn.Linear(8, 12), nn.Linear(12, 12), nn.Linear(12, 12)
        self.two.weight = self.one.weight
        self.last = nn.Linear(12, 3)

    def forward(self, x):
        return self.last(self.two(self.one(self.first(x)).relu()).relu())


class TiedBiases(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.two.bias = self.one.bias
        self.end = nn.Sequential(*head(8))

    def forward(self, x):
        return self.end(self.two(self.one(x).relu()).relu())


class Autoencoder(nn.Module):
    """The decoder is the encoder transposed."""

    def __init__(self):
        super().__init__()
        self.encoder, self.bias = nn.Linear(8, 5), nn.Parameter(torch.zeros(8))

    def forward(self, x):
        return F.linear(self.encoder(x).relu(), self.encoder.weight.t(), self.bias)


class Borrowed(nn.Module):
    """A layer's weight is read by a function, not by the layer."""

    def __init__(self):
        super().__init__()
        self.stem, self.held = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3)
        self.end = nn.Sequential(*head(6))

    def forward(self, x):
        return self.end(F.conv2d(self.stem(x).relu(), self.held.weight, stride=2).relu())


class WeightAsValue(nn.Module):
    """The layer is called, and its weight is used as a number as well."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(8, 12), nn.Linear(12, 3)

    def forward(self, x):
        return self.last(self.first(x).relu()) * (1 + self.first.weight.square().mean())


class Hypernetwork(nn.Module):
    """A layer makes the weights of another."""

    def __init__(self):
        super().__init__()
        self.coder, self.maker = nn.Linear(8, 6), nn.Linear(6, 3 * 8)

    def forward(self, x):
        weight = self.maker(self.coder(x).relu()).view(-1, 3, 8)
        return torch.einsum("bof,bf->bo", weight, x)


class Symmetric(nn.Module):
    def forward(self, weight):
        return weight.triu() + weight.triu(1).transpose(-1, -2)


class Positive(nn.Module):
    def forward(self, weight):
        return F.softplus(weight)


class Standardised(nn.Conv2d):
    """Normalises its weight in every call."""

    def forward(self, x):
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        deviation = self.weight.std((1, 2, 3), keepdim=True)
        weight = (self.weight - mean) / (deviation + 1e-5)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class Free(nn.Module):
    """Parameters outside of layers: a scale for each channel, a place, a temperature."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.gamma = nn.Parameter(torch.linspace(0.5, 1.5, 8).view(8, 1, 1))
        self.place = nn.Parameter(torch.randn(1, 8, 8, 8) / 4)
        self.temperature = nn.Parameter(torch.tensor(2.0))
        self.end = nn.Sequential(*head(8))

    def forward(self, x):
        x = self.stem(x) * self.gamma + self.place
        return self.end(x.relu()) / self.temperature


class Matrices(nn.Module):
    """Products with parameters of no layer."""

    def __init__(self):
        super().__init__()
        self.up = nn.Parameter(torch.randn(8, 12) / 3)
        self.down = nn.ParameterDict({"a": torch.randn(12, 3) / 3, "b": torch.zeros(3)})

    def forward(self, x):
        return (x @ self.up).relu() @ self.down["a"] + self.down["b"]


class Einsum(nn.Module):
    def __init__(self):
        super().__init__()
        self.weights = nn.ParameterList([torch.randn(8, 2, 6) / 3, torch.randn(2, 6, 3) / 3])

    def forward(self, x):
        hidden = torch.einsum("bf,fhd->bhd", x, self.weights[0]).relu()
        return torch.einsum("bhd,hdo->bo", hidden, self.weights[1])


class Buffers(nn.Module):
    """Statistics of the input, one of them for each channel, and one that is not saved."""

    def __init__(self):
        super().__init__()
        self.stem, self.end = nn.Conv2d(3, 8, 3), nn.Sequential(*head(8))
        self.register_buffer("shift", torch.linspace(-1, 1, 8).view(1, 8, 1, 1))
        self.register_buffer("mean", torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1))
        self.register_buffer("passing", torch.tensor(3.0), persistent=False)

    def forward(self, x):
        return self.end((self.stem((x - self.mean) / self.passing) + self.shift).relu())


class Counting(nn.Module):
    """Changes a buffer in every call, in evaluation mode too."""

    def __init__(self):
        super().__init__()
        self.register_buffer("num_calls", torch.tensor(0))
        self.body = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 3))

    def forward(self, x):
        self.num_calls += 1
        return self.body(x)


class Bilinear(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(8, 6), nn.Linear(8, 5)
        self.join = nn.Bilinear(6, 5, 3)

    def forward(self, x):
        return self.join(self.left(x).relu(), self.right(x).relu())


class Unregistered(nn.Module):
    """A layer in a plain list, which PyTorch does not see."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(8, 12), nn.Linear(12, 3)
        self.hidden = [nn.Linear(12, 12).requires_grad_(False)]

    def forward(self, x):
        return self.last(self.hidden[0](self.first(x).relu()).relu())


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last, self.spare = nn.Linear(8, 12), nn.Linear(12, 3), nn.Linear(12, 12)

    def forward(self, x):
        return self.last(self.first(x).relu())


def parametrised(wrap, *, norm=False):
    """A small classifier of images with ``wrap`` around its layers."""

    def build():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # the older forms
            layers = [wrap(nn.Conv2d(3, 8, 3, padding=1)), nn.ReLU()]
            layers += [wrap(nn.Conv2d(8, 6, 3, padding=1))]
            layers += [nn.BatchNorm2d(6)] if norm else []
            return nn.Sequential(*layers, nn.ReLU(), *head(6))

    return build


def _on_linear(parametrization):
    def build():
        hidden = nn.Linear(12, 12)
        parametrize.register_parametrization(hidden, "weight", parametrization())
        return nn.Sequential(nn.Linear(8, 12), nn.ReLU(), hidden, nn.ReLU(), nn.Linear(12, 3))

    return build


def _images(*, hidden=8, change=lambda network: None):
    def build():
        network = nn.Sequential(
            *(nn.Conv2d(3, hidden, 3, padding=1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU()),
            *(nn.Conv2d(hidden, hidden, 3, padding=1), nn.ReLU()),
            *head(hidden),
        )
        with torch.no_grad():
            change(network)
        return network

    return build


def _dead(network):
    network[0].weight[::2] = 0
    network[1].weight[::2] = 0
    network[3].weight[1:3] = 0
    network[3].bias[1:3] = 0


def _zero(network):
    for parameter in network.parameters():
        parameter.zero_()


def ids():
    return torch.arange(20).view(4, 5) % 11


CASES = {
    "shared_layer": Case(build=SharedLayer, example=row),
    "shared_convolution": Case(build=SharedConvolution, example=image),
    "two_names": Case(build=TwoNames, example=image),
    "tied_table": Case(build=TiedTable, example=ids),
    "tied_linears": Case(build=TiedLinears, example=row),
    "tied_biases": Case(build=TiedBiases, example=image),
    "autoencoder": Case(build=Autoencoder, example=row),
    "borrowed_weight": Case(build=Borrowed, example=image),
    "weight_as_value": Case(
        build=WeightAsValue,
        example=row,
    ),
    "hypernetwork": Case(build=Hypernetwork, example=row),
    "weight_norm": Case(
        build=parametrised(parametrizations.weight_norm),
        example=image,
    ),
    "weight_norm_and_norm": Case(
        build=parametrised(parametrizations.weight_norm, norm=True),
        example=image,
    ),
    "weight_norm_old": Case(
        build=parametrised(nn.utils.weight_norm),
        example=image,
    ),
    "spectral_norm": Case(
        build=parametrised(parametrizations.spectral_norm),
        example=image,
    ),
    "spectral_norm_and_norm": Case(
        build=parametrised(parametrizations.spectral_norm, norm=True),
        example=image,
    ),
    "spectral_norm_old": Case(
        build=parametrised(nn.utils.spectral_norm),
        example=image,
    ),
    "orthogonal": Case(
        build=lambda: nn.Sequential(
            nn.Linear(8, 12),
            nn.ReLU(),
            parametrizations.orthogonal(nn.Linear(12, 12)),
            nn.ReLU(),
            nn.Linear(12, 3),
        ),
        example=row,
    ),
    "symmetric": Case(
        build=_on_linear(Symmetric),
        example=row,
    ),
    "positive": Case(
        build=_on_linear(Positive),
        example=row,
    ),
    "standardised": Case(
        build=lambda: nn.Sequential(
            Standardised(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU(), *head(6)
        ),
        example=image,
    ),
    "free_parameters": Case(build=Free, example=image),
    "matrices": Case(
        build=Matrices,
        example=row,
    ),
    "einsum": Case(
        build=Einsum,
        example=row,
    ),
    "buffers": Case(build=Buffers, example=image),
    "counting": Case(build=Counting, example=row),
    "bilinear": Case(build=Bilinear, example=row),
    "unregistered": Case(build=Unregistered, example=row),
    "unused": Case(build=Unused, example=row),
    "frozen": Case(
        build=_images(change=lambda network: network[:2].requires_grad_(False)), example=image
    ),
    "all_frozen": Case(
        build=_images(change=lambda network: network.requires_grad_(False)),
        example=image,
        in_fit=False,
    ),
    "primes": Case(build=_images(hidden=13), example=image),
    "one_channel": Case(
        build=_images(hidden=1),
        example=image,
    ),
    "dead_channels": Case(build=_images(change=_dead), example=image),
    "all_zero": Case(build=_images(change=_zero), example=image),
    "nan_weight": Case(
        build=_images(change=lambda network: network[3].weight[0].fill_(float("nan"))),
        example=image,
        in_fit=False,
    ),
    "infinite_weight": Case(
        build=_images(change=lambda network: network[3].weight[0].fill_(float("inf"))),
        example=image,
        in_fit=False,
    ),
    "huge_weights": Case(
        build=_images(change=lambda network: network[3].weight.mul_(1e6)), example=image
    ),
    "tiny_weights": Case(
        build=_images(change=lambda network: network[3].weight.mul_(1e-12)), example=image
    ),
    "no_norm": Case(
        build=lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), *head(8)
        ),
        example=image,
    ),
    "one_linear": Case(
        build=lambda: nn.Linear(8, 3),
        example=row,
    ),
    "one_convolution": Case(
        build=lambda: nn.Conv2d(3, 4, 3),
        example=image,
    ),
    "no_parameters": Case(
        build=lambda: nn.Sequential(nn.AvgPool2d(2), nn.ReLU()),
        example=image,
        in_fit=False,
    ),
    "lazy": Case(
        build=lambda: nn.Sequential(nn.LazyConv2d(8, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)),
        example=image,
        in_fit=False,
    ),
    "wide_input": Case(
        build=lambda: nn.Sequential(nn.Linear(97, 7), nn.ReLU(), nn.Linear(7, 2)),
        example=lambda: drawn(97),
    ),
}
