import copy
import itertools

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from lightning_cost.network.attention import (
    OpenAttention,
    open_attention,
    reason_to_stay_closed,
)

PADDING = torch.tensor([[False, False, True, False], [False, True, False, True]])
MASK = torch.triu(torch.ones(3, 4), 1).bool()
MASKS = {
    "none": {},
    "padding": {"key_padding_mask": PADDING},
    "attention": {"attn_mask": MASK},
    "added": {"attn_mask": torch.randn(3, 4, generator=torch.Generator().manual_seed(0))},
    "each head": {"attn_mask": MASK.repeat(4, 1, 1)},
    "both": {"attn_mask": MASK, "key_padding_mask": PADDING},
}


def opened(attention, *, is_self=False):
    network = nn.Sequential(copy.deepcopy(attention))
    swaps = open_attention(network, "0", is_self=is_self)
    assert isinstance(network[0], OpenAttention)
    return network[0], swaps


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize(
    ("batch_first", "need_weights", "average"), [*itertools.product([True, False], repeat=3)]
)
def test_opened_attends_as_closed(name, batch_first, need_weights, average):
    torch.manual_seed(0)
    closed = nn.MultiheadAttention(8, 2, kdim=6, vdim=5, batch_first=batch_first)
    inputs = [torch.randn(2, *shape) for shape in ((3, 8), (4, 6), (4, 5))]
    if not batch_first:
        inputs = [each.transpose(0, 1) for each in inputs]
    settings = {"need_weights": need_weights, "average_attn_weights": average, **MASKS[name]}
    attention, swaps = opened(closed)
    for found, expected in zip(
        attention(*inputs, **settings), closed(*inputs, **settings), strict=True
    ):
        torch.testing.assert_close(found, expected)
    assert [swap.old is None for swap in swaps] == [False, True, True, True]


@pytest.mark.parametrize("bias", [True, False])
def test_self_attention_keeps_its_parameters(bias):
    closed = nn.MultiheadAttention(8, 2, bias=bias, dropout=0.5)
    network = nn.ModuleDict({"one": closed, "other": closed})
    x, before = torch.randn(5, 3, 8), list(closed.parameters())
    expected = closed.eval()(x, x, x)[0]
    assert open_attention(network, "one", is_self=True) == []
    assert network["other"] is network["one"]
    torch.testing.assert_close(network["one"](x, x, x)[0], expected)
    assert [*map(id, network.parameters())] == [*map(id, before)]
    assert not torch.allclose(network["one"].train()(x, x, x)[0], expected)  # dropout
    with pytest.raises(ValueError, match="query, key and value must be one tensor"):
        network["one"](x, x, x.clone())


def test_attention_to_others_cuts_its_parameters_in_three():
    closed = nn.MultiheadAttention(8, 2)
    query, key = torch.randn(3, 8), torch.randn(4, 8)
    attention, swaps = opened(closed)
    for found, expected in zip(attention(query, key, key), closed(query, key, key), strict=True):
        torch.testing.assert_close(found, expected)
    removed = [swap.old for swap in swaps if swap.old is not None]
    added = [swap.new for swap in swaps if swap.new is not None]
    assert [tuple(value.shape) for value in removed] == [(24, 8), (24,)]
    assert {*map(id, added)} == {
        id(value) for layer in attention.in_proj for value in layer.parameters()
    }


@pytest.mark.parametrize("batch_first", [True, False])
def test_encoder_layer_calls_the_opened_layers(batch_first):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=batch_first).eval()
    x = torch.randn(2, 3, 8)
    expected = layer(x)
    open_attention(layer, "self_attn", is_self=True)
    calls = []
    layer.self_attn.in_proj[0].register_forward_hook(lambda *call: calls.append(1))
    with torch.no_grad():
        torch.testing.assert_close(layer(x), expected)
    assert calls == [1]


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_encoder_of_padded_batches_calls_the_opened_layers():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    network = nn.Sequential(nn.TransformerEncoder(layer, 2)).eval()
    x, padding = torch.randn(2, 4, 8), torch.tensor([[False] * 4, [False, False, True, True]])
    with torch.no_grad():
        expected = network[0](x, src_key_padding_mask=padding)
        assert not expected[padding].any()  # by way of nested tensors
        open_attention(network, "0.layers.1.self_attn", is_self=True)
        found = network[0](x, src_key_padding_mask=padding)
        torch.testing.assert_close(found[~padding], expected[~padding])
        open_attention(network, "0.layers.0.self_attn", is_self=True)
        found = network[0](x, src_key_padding_mask=padding)
    torch.testing.assert_close(found[~padding], expected[~padding])


class Own(nn.MultiheadAttention):
    def forward(self, x):
        return super().forward(x, x, x)


def hooked():
    attention = nn.MultiheadAttention(4, 1)
    attention.register_forward_hook(print)
    return attention


@pytest.mark.parametrize(
    ("attention", "reason"),
    [
        (nn.MultiheadAttention(4, 1), None),
        (nn.MultiheadAttention(4, 1, kdim=2), None),
        (nn.MultiheadAttention(4, 1, add_bias_kv=True), "it adds a key of its own"),
        (nn.MultiheadAttention(4, 1, add_zero_attn=True), "it adds a key of its own"),
        (Own(4, 1), "its forward is not that of nn.MultiheadAttention"),
        (hooked(), "hooks hang on it"),
        (
            parametrizations.weight_norm(nn.MultiheadAttention(4, 1), "in_proj_weight"),
            "its weight is computed from others",
        ),
    ],
)
def test_what_stays_closed(attention, reason):
    assert reason_to_stay_closed(attention) == reason
