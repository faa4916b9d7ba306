"""``nn.MultiheadAttention`` with fewer heads than its inputs have room for."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override


class PrunedMultiheadAttention(nn.MultiheadAttention):
    """Attention whose heads together are narrower than ``embed_dim``.

    ``nn.MultiheadAttention`` takes them to be as wide, so one that loses heads becomes this. It
    has the same parameters by the same names and takes the same arguments.
    """

    @override
    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        is_batched = query.dim() == 3
        if not is_batched:
            query, key, value = _each(lambda tensor: tensor.unsqueeze(0), query, key, value)
        elif not self.batch_first:
            query, key, value = _each(lambda tensor: tensor.transpose(0, 1), query, key, value)
        queries, keys, values = (
            each.reshape(*each.shape[:2], self.num_heads, -1).transpose(1, 2)
            for each in self._projected(query, key, value)
        )
        mask = self._mask(queries, key_padding_mask, attn_mask)
        dropout = self.dropout if self.training else 0.0
        scores: Tensor | None = None
        if need_weights:
            scores = queries @ keys.transpose(-1, -2) / math.sqrt(queries.shape[-1])
            scores = (scores if mask is None else scores + mask).softmax(-1)
            scores = functional.dropout(scores, dropout, training=self.training)
            mixed = scores @ values
        else:
            mixed = functional.scaled_dot_product_attention(
                queries, keys, values, attn_mask=mask, dropout_p=dropout
            )
        mixed = mixed.transpose(1, 2).flatten(2)
        output = functional.linear(mixed, self.out_proj.weight, self.out_proj.bias)
        if scores is not None and average_attn_weights:
            scores = scores.mean(1)
        if not is_batched:
            return output.squeeze(0), None if scores is None else scores.squeeze(0)
        return output if self.batch_first else output.transpose(0, 1), scores

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values, in as few products as ``nn.MultiheadAttention`` takes."""
        weight, bias = self.in_proj_weight, self.in_proj_bias
        assert weight is not None
        if query is key and key is value:
            return functional.linear(query, weight, bias).chunk(3, -1)
        width = len(weight) // 3
        biases = (None, None) if bias is None else (bias[:width], bias[width:])
        weights = (weight[:width], weight[width:])
        queries = functional.linear(query, weights[0], biases[0])
        if key is value:
            return queries, *functional.linear(key, weights[1], biases[1]).chunk(2, -1)
        halves = (None, None) if biases[1] is None else biases[1].chunk(2)
        parts = zip((key, value), weights[1].chunk(2), halves, strict=True)
        return queries, *(functional.linear(*part) for part in parts)

    def _mask(
        self, queries: Tensor, key_padding_mask: Tensor | None, attn_mask: Tensor | None
    ) -> Tensor | None:
        """What is added to the scores [batch, heads, queries, keys]."""
        mask = None
        if attn_mask is not None:
            mask = _as_added(attn_mask, queries)
            if mask.dim() == 3:
                mask = mask.reshape(len(queries), -1, *mask.shape[1:])
        if key_padding_mask is not None:
            padding = _as_added(key_padding_mask, queries).reshape(
                -1, 1, 1, key_padding_mask.shape[-1]
            )
            mask = padding if mask is None else mask + padding
        return mask


def _each(
    function: Callable[[Tensor], Tensor], query: Tensor, key: Tensor, value: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The function of each; the same tensor again where they are the same."""
    found = function(query)
    key_found = found if key is query else function(key)
    return found, key_found, key_found if value is key else function(value)


def follow_num_heads(layer: nn.Module) -> None:
    """Make an ``nn.MultiheadAttention`` that has lost heads run with those that it has."""
    if type(layer) is nn.MultiheadAttention and _is_plain(layer):
        layer.__class__ = PrunedMultiheadAttention
        # else whole-layer kernels, which take it to be as wide as its inputs, would run it
        layer._qkv_same_embed_dim = False


def _as_added(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype is not torch.bool:
        return mask.to(like)
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, -math.inf)


def _is_plain(layer: nn.MultiheadAttention) -> bool:
    return layer.bias_k is None and layer.bias_v is None and not layer.add_zero_attn
