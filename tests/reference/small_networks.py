"""Small networks, each with one way in which channels can be coupled."""

import torch
from torch import nn
from torch.nn import functional

from tests.reference.random_networks import images

TOKENS = torch.randn(2, 6, 16, generator=torch.Generator().manual_seed(3))


class SelfAttention(nn.Module):
    def __init__(self, dim=16, num_heads=4):
        super().__init__()
        self.num_heads, self.head_dim = num_heads, dim // num_heads
        self.norm, self.qkv, self.proj = (
            nn.LayerNorm(dim),
            nn.Linear(dim, 3 * dim),
            nn.Linear(dim, dim),
        )

    def forward(self, x):
        batch, length, _ = x.shape
        qkv = self.qkv(self.norm(x)).view(batch, length, 3, self.num_heads, self.head_dim)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        scores = (query @ key.transpose(-1, -2) / self.head_dim**0.5).softmax(-1)
        return x + self.proj((scores @ value).transpose(1, 2).flatten(2))


class TorchAttention(nn.Module):
    def __init__(self, *, batch_first, need_weights, has_bias=True):
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 4, batch_first=batch_first, bias=has_bias)
        self.need_weights = need_weights
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        mask = torch.zeros(x.shape[-2 if self.attention.batch_first else 0], device=x.device)
        mask = mask.expand(len(mask), -1).clone().fill_(-1).triu(1)
        y, _ = self.attention(x, x, x, attn_mask=mask, need_weights=self.need_weights)
        return self.head(x + y)


class CrossAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x):
        return self.attention(x, x.flip(1), x.flip(1) + 1, need_weights=False)[0]


class SingleHead(nn.Module):
    """Queries and keys are multiplied with each other only; their number is not in the scale."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = nn.Linear(16, 8), nn.Linear(16, 8), nn.Linear(16, 6)
        self.out = nn.Linear(6, 3)

    def forward(self, x):
        scores = (self.q(x) @ self.k(x).transpose(-1, -2)).softmax(-1)
        return self.out(scores @ self.v(x))


class Shuffled(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.end = nn.Conv2d(2, 12, 1), nn.Conv2d(12, 3, 1)
        self.branch = nn.Sequential(nn.Conv2d(6, 8, 1), nn.ReLU(), nn.Conv2d(8, 6, 1))

    def forward(self, x):
        left, right = self.stem(x).chunk(2, dim=1)
        x = torch.cat([left, self.branch(right)], 1)
        batch, channels, height, width = x.shape
        x = x.view(batch, 2, channels // 2, height, width).transpose(1, 2)
        return self.end(x.reshape(batch, channels, height, width))


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(16, 12), nn.Linear(6, 3)

    def forward(self, x):
        return self.second(functional.glu(self.first(x)))


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down, self.bottom = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)
        self.up, self.join = nn.ConvTranspose2d(8, 5, 2, 2), nn.Conv2d(11, 4, 3)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x):
        high = self.down(x).relu()
        low = self.bottom(functional.max_pool2d(high, 2)).relu()
        return self.head(self.join(torch.cat([self.up(low), high], 1)))


class SharedBlock(nn.Module):
    """Two inputs, two outputs, one block for both."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(3, 8), nn.Linear(4, 8)
        self.block = nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 8))
        self.head = nn.Linear(8, 2)

    def forward(self, a, b):
        a, b = self.block(self.left(a)), self.block(self.right(b))
        return {"a": self.head(a), "b": self.head(b)}


class Recurrent(nn.Module):
    def __init__(self, layer, outputs):
        super().__init__()
        self.layer, self.head = layer, nn.Linear(outputs, 3)

    def forward(self, x):
        return self.head(self.layer(x)[0])


class Scaled(nn.Conv2d):
    """A convolution of one's own, with a parameter of its own."""

    def __init__(self, *args):
        super().__init__(*args)
        self.scale = nn.Parameter(torch.ones(args[1], 1, 1))

    def forward(self, x):
        return super().forward(x) * self.scale


class LateClassifier(nn.Module):
    """A second classifier that runs in training alone."""

    def __init__(self):
        super().__init__()
        self.body, self.late = nn.Conv2d(2, 6, 3), nn.Linear(6, 3)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        x = self.body(x).mean((2, 3))
        return (self.head(x), self.late(x)) if self.training else self.head(x)


def _dims(dims):
    conv, norm = getattr(nn, f"Conv{dims}d"), getattr(nn, f"BatchNorm{dims}d")
    return nn.Sequential(conv(2, 6, 3), norm(6), nn.GELU(), conv(6, 4, 1), nn.Flatten())


NETWORKS = {
    "self_attention": (SelfAttention, TOKENS),
    "torch_attention": (lambda: TorchAttention(batch_first=True, need_weights=False), TOKENS),
    "torch_attention_weights": (
        lambda: TorchAttention(batch_first=False, need_weights=True),
        TOKENS,
    ),
    "torch_attention_no_bias": (
        lambda: TorchAttention(batch_first=True, need_weights=True, has_bias=False),
        TOKENS,
    ),
    "cross_attention": (CrossAttention, TOKENS),
    "encoder_layer": (
        lambda: nn.TransformerEncoderLayer(16, 4, 24, batch_first=True, norm_first=True),
        TOKENS,
    ),
    "single_head": (SingleHead, TOKENS),
    "shuffled": (Shuffled, images()),
    "gated": (Gated, TOKENS),
    "unet": (UNet, images()),
    "shared_block": (SharedBlock, (torch.ones(2, 3), torch.ones(2, 4))),
    "lstm": (lambda: Recurrent(nn.LSTM(16, 8, 2, batch_first=True), 8), TOKENS),
    "lstm_bidirectional": (lambda: Recurrent(nn.LSTM(16, 8, bidirectional=True), 16), TOKENS),
    "gru": (lambda: Recurrent(nn.GRU(16, 8, 2), 8), TOKENS),
    "rnn": (lambda: Recurrent(nn.RNN(16, 8), 8), TOKENS),
    "conv1d": (lambda: _dims(1), torch.randn(2, 2, 7)),
    "conv3d": (lambda: _dims(3), torch.randn(1, 2, 4, 4, 4)),
    "subclass": (lambda: nn.Sequential(Scaled(2, 6, 3), nn.Conv2d(6, 2, 1)), images()),
    "wide_groups": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 8, 1), nn.Conv2d(8, 12, 3, groups=2), nn.ReLU(), nn.Conv2d(12, 2, 1)
        ),
        images(),
    ),
    "many_groups": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 16, 1), nn.Conv2d(16, 32, 3, groups=8), nn.ReLU(), nn.Conv2d(32, 2, 1)
        ),
        images(),
    ),
    "depth_multiplier": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 1), nn.Conv2d(4, 8, 3, groups=4), nn.ReLU(), nn.Conv2d(8, 2, 1)
        ),
        images(),
    ),
    "group_norm": (
        lambda: nn.Sequential(nn.Conv2d(2, 8, 1), nn.GroupNorm(4, 8), nn.Conv2d(8, 2, 1)),
        images(),
    ),
    "late_classifier": (LateClassifier, images()),
}
