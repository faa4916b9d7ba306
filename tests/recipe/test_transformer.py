import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_cost.cost.training_flops import count_training_flops
from lightning_cost.recipe.transformer import Transformer


def test_gpt_3_as_its_paper_counts():
    # Brown et al., 2020, table D.1: 174.6 billion weights, 300 billion tokens, 3.14e23 FLOPs
    gpt3 = Transformer(num_layers=96, width=12288, tokens=300e9)
    assert gpt3.num_weights == pytest.approx(174.6e9, rel=1e-3)
    assert gpt3.weight_flops == pytest.approx(3.14e23, rel=2e-3)
    assert gpt3.flops == pytest.approx(gpt3.weight_flops * 1.0277, rel=1e-3)


class Block(nn.Module):
    def __init__(self, width, heads, feedforward, kv_ratio, gated):
        super().__init__()
        self.heads, kv = heads, int(width * kv_ratio)
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.query, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.key, self.value = nn.Linear(width, kv), nn.Linear(width, kv)
        self.up, self.down = nn.Linear(width, feedforward), nn.Linear(feedforward, width)
        self.gate = nn.Linear(width, feedforward) if gated else None

    def forward(self, x):
        batch, length, width = x.shape
        dim = width // self.heads
        normed = self.norms[0](x)

        def split(y):
            parts = y.view(batch, length, -1, dim).transpose(1, 2)
            return parts.repeat_interleave(self.heads // parts.shape[1], dim=1)

        query, key, value = (
            split(self.query(normed)),
            split(self.key(normed)),
            split(self.value(normed)),
        )
        scores = (query @ key.transpose(2, 3)).softmax(-1)
        x = x + self.out((scores @ value).transpose(1, 2).reshape(batch, length, width))
        normed = self.norms[1](x)
        hidden = F.gelu(self.up(normed))
        if self.gate is not None:
            hidden = hidden * self.gate(normed)
        return x + self.down(hidden)


class Decoder(nn.Module):
    def __init__(self, vocabulary, width, num_layers, **block):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.blocks = nn.Sequential(*[Block(width, **block) for _ in range(num_layers)])
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, tokens):
        return self.head(self.blocks(self.embedding(tokens)))


@pytest.mark.parametrize(
    ("kv_ratio", "gated", "feedforward"), [(1.0, False, None), (0.25, True, 704)]
)
def test_a_real_transformer_on_meta_counts_the_same(kv_ratio, gated, feedforward):
    with torch.device("meta"):
        network = Decoder(
            vocabulary=1000,
            width=256,
            num_layers=3,
            heads=4,
            feedforward=feedforward or 1024,
            kv_ratio=kv_ratio,
            gated=gated,
        )
        example = torch.zeros(1, 96, dtype=torch.long)
    described = Transformer(
        num_layers=3,
        width=256,
        tokens=96,
        context=96,
        vocabulary=1000,
        feedforward=feedforward,
        feedforward_matrices=3 if gated else 2,
        kv_ratio=kv_ratio,
    )
    assert described.flops == pytest.approx(count_training_flops(network, example), rel=0.01)


def test_nothing_is_given_by_default():
    assert not Transformer().is_given


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tokens": 0.0}, r"transformer.tokens must be > 0, got 0.0"),
        ({"tokens": float("nan")}, r"transformer.tokens must be > 0, got nan"),
        ({"num_layers": -1}, r"transformer.num_layers must be > 0, got -1"),
        ({"num_layers": 2, "width": 8}, r"given by num_layers, width, tokens, got no tokens; set"),
        ({"context": 0}, r"transformer.context must be > 0, got 0"),
    ],
)
def test_wrong_dimensions(values, message):
    with pytest.raises(ValueError, match=message):
        Transformer(**values)
