"""Networks of layers that are rare, or used in a rare way."""

import torch
import torch.nn.functional as F
from torch import nn

from tests.gauntlet.strange.case import Case, drawn, head, image, row, tokens


class Recurrent(nn.Module):
    def __init__(self, layer, outputs):
        super().__init__()
        self.layer, self.last = layer, nn.Linear(outputs, 3)

    def forward(self, x):
        return self.last(self.layer(x)[0][:, -1])


class CellLoop(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.last = nn.GRUCell(8, 6), nn.Linear(6, 3)

    def forward(self, x):
        state = x.new_zeros(len(x), self.cell.hidden_size)
        for step in x.unbind(1):
            state = self.cell(step, state)
        return self.last(state)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.last = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 3)

    def forward(self, x):
        return self.last((x + self.attention(x, x, x)[0]).mean(1))


class EinsumAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key, self.value = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        scores = torch.einsum("bqc,bkc->bqk", self.query(x), self.key(x)).softmax(-1)
        return self.last(torch.einsum("bqk,bkc->bqc", scores, self.value(x)).mean(1))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, dropout=0.0)
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        return self.last(self.body(x).mean(1))


class SqueezeExcite(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.squeeze, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.end = nn.Sequential(*head(8))

    def forward(self, x):
        x = self.stem(x).relu()
        scale = self.excite(self.squeeze(x.mean((2, 3), keepdim=True)).relu()).sigmoid()
        return self.end(x * scale)


class Concatenated(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3 + 4 * i, 4, 3, padding=1) for i in range(3))
        self.norm, self.end = nn.BatchNorm2d(15), nn.Sequential(*head(15))

    def forward(self, x):
        for layer in self.layers:
            x = torch.cat([x, layer(x).relu()], 1)
        return self.end(self.norm(x))


class Negated(nn.Module):
    """Both signs of each channel."""

    def __init__(self):
        super().__init__()
        self.stem, self.end = nn.Conv2d(3, 6, 3), nn.Sequential(*head(12))

    def forward(self, x):
        x = self.stem(x)
        return self.end(torch.cat([x, -x], 1).relu())


class Maxout(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(8, 12), nn.Linear(6, 3)

    def forward(self, x):
        return self.last(self.first(x).unflatten(1, (6, 2)).amax(-1))


class Padded(nn.Module):
    """A shortcut that pads channels with zeros."""

    def __init__(self):
        super().__init__()
        self.stem, self.wide = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 10, 3, padding=1)
        self.end = nn.Sequential(*head(10))

    def forward(self, x):
        x = self.stem(x)
        return self.end((self.wide(x) + F.pad(x, (0, 0, 0, 0, 2, 2))).relu())


class PickedChannels(nn.Module):
    """Slices, splits, rolls and flips channels."""

    def __init__(self):
        super().__init__()
        self.stem, self.left, self.right = (
            nn.Conv2d(3, 12, 3),
            nn.Conv2d(5, 4, 1),
            nn.Conv2d(7, 4, 1),
        )
        self.end = nn.Sequential(*head(8))

    def forward(self, x):
        left, right = self.stem(x).relu().split([5, 7], 1)
        return self.end(torch.cat([self.left(left.flip(1)), self.right(right.roll(2, 1))], 1))


class AcrossChannels(nn.Module):
    """Softmax, mean, sort and running sum over channels."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Linear(8, 6) for _ in range(4))
        self.last = nn.Linear(19, 3)

    def forward(self, x):
        parts = [
            self.a(x).softmax(-1),
            self.b(x).sort(-1).values,
            self.c(x).cumsum(-1),
            self.d(x).mean(-1, keepdim=True),
        ]
        return self.last(torch.cat(parts, 1))


class TopChannels(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(8, 12), nn.Linear(4, 3)

    def forward(self, x):
        return self.last(self.first(x).topk(4, -1).values)


class Sampled(nn.Module):
    """Looks its features up where another layer says."""

    def __init__(self):
        super().__init__()
        self.stem, self.where = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(3, 2, 3, padding=1)
        self.end = nn.Sequential(*head(6))

    def forward(self, x):
        grid = self.where(x).tanh().permute(0, 2, 3, 1)
        return self.end(F.grid_sample(self.stem(x).relu(), grid, align_corners=False))


class Unfolded(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 4, 3)

    def forward(self, x):
        return self.last(F.unfold(self.stem(x).relu(), 2, stride=2).mean(-1))


class ChannelsBehind(nn.Module):
    """Permutes channels to the end and back."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm, self.mix = nn.Conv2d(3, 8, 3), nn.LayerNorm(8), nn.Linear(8, 12)
        self.back, self.end = nn.Linear(12, 8), nn.Sequential(*head(8))

    def forward(self, x):
        x = self.stem(x)
        y = self.back(F.gelu(self.mix(self.norm(x.permute(0, 2, 3, 1)))))
        return self.end(x + y.permute(0, 3, 1, 2))


class FixedWidth(nn.Module):
    """The number of channels stands in the code."""

    def __init__(self):
        super().__init__()
        self.stem, self.last = nn.Conv2d(3, 12, 3), nn.Linear(12, 3)

    def forward(self, x):
        return self.last(self.stem(x).relu().view(len(x), 12, 36).mean(2))


class KnownWidth(nn.Module):
    """The number of channels is an attribute that the code reads."""

    def __init__(self):
        super().__init__()
        self.width = 12
        self.stem, self.last = nn.Conv2d(3, self.width, 3), nn.Linear(self.width, 3)

    def forward(self, x):
        return self.last(self.stem(x).relu().view(-1, self.width, 36).mean(2))


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return 3 * x.square() * gradient


class OwnFunction(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(8, 12), nn.Linear(12, 3)

    def forward(self, x):
        return self.last(Cube.apply(self.first(x)))


class Spectrum(nn.Module):
    """Complex numbers in the middle."""

    def __init__(self):
        super().__init__()
        self.stem, self.last = nn.Conv2d(3, 6, 3, padding=1), nn.Linear(6, 3)

    def forward(self, x):
        return self.last(torch.fft.rfft2(self.stem(x)).abs().mean((2, 3)))


class ComplexWeights(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, 6, dtype=torch.complex64)
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        return self.last(self.first(x.to(torch.complex64)).abs())


class Mixture(nn.Module):
    """Experts, weighted by a gate."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(8, 3)
        self.experts = nn.ModuleDict({name: nn.Linear(8, 6) for name in "abc"})
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        outputs = torch.stack([expert(x).relu() for expert in self.experts.values()], 1)
        return self.last((self.gate(x).softmax(-1)[:, :, None] * outputs).sum(1))


def _images(*layers, last=8):
    return lambda: nn.Sequential(*(layer() for layer in layers), *head(last))


CASES = {
    "gru": Case(build=lambda: Recurrent(nn.GRU(8, 6, batch_first=True), 6), example=tokens),
    "lstm": Case(
        build=lambda: Recurrent(nn.LSTM(8, 6, 2, bidirectional=True, batch_first=True), 12),
        example=tokens,
    ),
    "cell_loop": Case(build=CellLoop, example=tokens),
    "attention": Case(build=Attention, example=tokens),
    "einsum_attention": Case(build=EinsumAttention, example=tokens),
    "encoder": Case(build=Encoder, example=tokens),
    "embedding_bag": Case(
        build=lambda: nn.Sequential(
            nn.EmbeddingBag(11, 8), nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 3)
        ),
        example=lambda: torch.arange(20).view(4, 5) % 11,
    ),
    "squeeze_excite": Case(build=SqueezeExcite, example=image),
    "concatenated": Case(build=Concatenated, example=image),
    "negated": Case(build=Negated, example=image),
    "maxout": Case(build=Maxout, example=row),
    "padded_shortcut": Case(build=Padded, example=image),
    "picked_channels": Case(
        build=PickedChannels,
        example=image,
    ),
    "across_channels": Case(
        build=AcrossChannels,
        example=row,
    ),
    "top_channels": Case(build=TopChannels, example=row),
    "sampled": Case(build=Sampled, example=image),
    "unfolded": Case(build=Unfolded, example=image),
    "channels_behind": Case(build=ChannelsBehind, example=image),
    "fixed_width": Case(
        build=FixedWidth,
        example=image,
    ),
    "known_width": Case(build=KnownWidth, example=image),
    "own_function": Case(build=OwnFunction, example=row),
    "spectrum": Case(build=Spectrum, example=image),
    "complex_weights": Case(
        build=ComplexWeights,
        example=row,
    ),
    "mixture": Case(build=Mixture, example=row),
    "convolution_1d": Case(
        build=lambda: nn.Sequential(
            *(nn.Conv1d(5, 8, 3), nn.BatchNorm1d(8), nn.ReLU(), nn.Conv1d(8, 4, 3)),
            *(nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)),
        ),
        example=tokens,
    ),
    "convolution_3d": Case(
        build=lambda: nn.Sequential(
            *(nn.Conv3d(2, 6, 3), nn.BatchNorm3d(6), nn.ReLU(), nn.Conv3d(6, 4, 1)),
            *(nn.ReLU(), nn.Flatten(), nn.Linear(32, 3)),
        ),
        example=lambda: drawn(2, 4, 4, 4),
    ),
    "transposed": Case(
        build=_images(
            lambda: nn.Conv2d(3, 8, 3, stride=2),
            nn.ReLU,
            lambda: nn.ConvTranspose2d(8, 6, 2, stride=2),
            lambda: nn.BatchNorm2d(6),
            nn.ReLU,
            last=6,
        ),
        example=image,
    ),
    "grouped": Case(
        build=_images(
            lambda: nn.Conv2d(3, 12, 3),
            nn.ReLU,
            lambda: nn.Conv2d(12, 8, 3, groups=4),
            nn.ReLU,
        ),
        example=image,
    ),
    "depthwise": Case(
        build=_images(
            lambda: nn.Conv2d(3, 8, 1),
            lambda: nn.BatchNorm2d(8),
            nn.ReLU6,
            lambda: nn.Conv2d(8, 8, 3, groups=8),
            lambda: nn.BatchNorm2d(8),
            nn.ReLU6,
            lambda: nn.Conv2d(8, 8, 1),
        ),
        example=image,
    ),
    "pixel_shuffle": Case(
        build=_images(
            lambda: nn.Conv2d(3, 16, 3), lambda: nn.PixelShuffle(2), lambda: nn.Conv2d(4, 8, 1)
        ),
        example=image,
    ),
    "pixel_unshuffle": Case(
        build=_images(
            lambda: nn.Conv2d(3, 4, 1), lambda: nn.PixelUnshuffle(2), lambda: nn.Conv2d(16, 8, 1)
        ),
        example=image,
    ),
    "channel_shuffle": Case(
        build=_images(
            lambda: nn.Conv2d(3, 8, 1),
            lambda: nn.ChannelShuffle(2),
            lambda: nn.Conv2d(8, 8, 3, groups=2),
            nn.ReLU,
        ),
        example=image,
    ),
    "paddings": Case(
        build=_images(
            lambda: nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect"),
            nn.ReLU,
            lambda: nn.Conv2d(8, 8, 3, padding=2, dilation=2, padding_mode="circular"),
            nn.ReLU,
        ),
        example=image,
    ),
    "norm_without_weights": Case(
        build=_images(lambda: nn.Conv2d(3, 8, 3), lambda: nn.BatchNorm2d(8, affine=False), nn.ReLU),
        example=image,
    ),
    "norm_without_statistics": Case(
        build=_images(
            lambda: nn.Conv2d(3, 8, 3),
            lambda: nn.BatchNorm2d(8, track_running_stats=False),
            nn.ReLU,
        ),
        example=image,
    ),
    "norm_first": Case(
        build=_images(
            lambda: nn.BatchNorm2d(3),
            lambda: nn.Conv2d(3, 8, 3),
            nn.ReLU,
            lambda: nn.BatchNorm2d(8),
            lambda: nn.Conv2d(8, 8, 3),
        ),
        example=image,
    ),
    "norm_negative": Case(
        build=lambda: _negative(
            nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), *head(8))
        ),
        example=image,
    ),
    "instance_norm": Case(
        build=_images(
            lambda: nn.Conv2d(3, 8, 3), lambda: nn.InstanceNorm2d(8, affine=True), nn.ReLU
        ),
        example=image,
    ),
    "group_norm": Case(
        build=_images(lambda: nn.Conv2d(3, 8, 3), lambda: nn.GroupNorm(4, 8), nn.ReLU),
        example=image,
    ),
    "response_norm": Case(
        build=_images(lambda: nn.Conv2d(3, 8, 3), lambda: nn.LocalResponseNorm(3), nn.ReLU),
        example=image,
    ),
    "rms_norm": Case(
        build=lambda: nn.Sequential(
            nn.Linear(8, 12),
            nn.RMSNorm(12),
            nn.ReLU(),
            nn.Linear(12, 6),
            nn.ReLU(),
            nn.Linear(6, 3),
        ),
        example=row,
    ),
    "prelu": Case(
        build=_images(lambda: nn.Conv2d(3, 8, 3), lambda: nn.PReLU(8), lambda: nn.Conv2d(8, 8, 1)),
        example=image,
    ),
    "deep": Case(
        build=lambda: nn.Sequential(
            *(layer for _ in range(16) for layer in (nn.Linear(8, 8), nn.ReLU())), nn.Linear(8, 3)
        ),
        example=row,
        noise=0.5,
    ),
}


@torch.no_grad()
def _negative(network):
    network[1].weight.copy_(torch.linspace(-1, 1, 8))
    network[1].running_mean.copy_(torch.linspace(-1, 1, 8))
    network[1].running_var.copy_(torch.linspace(0.1, 3, 8))
    return network
