"""Attention of several heads, apart from what projects its inputs."""

import math
from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from lightning_cost.network.lineage import ParameterSwap


class ProjectedAttention(nn.Module):
    """Called as ``nn.MultiheadAttention`` is; what it projects with is left to subclasses."""

    num_heads: int
    dropout: float
    batch_first: bool

    @abstractmethod
    def projected(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values of all heads, each [batch, length, width]."""

    @abstractmethod
    def result(self, mixed: Tensor) -> Tensor:
        """The output for what the heads found [batch, length, width]."""

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
            for each in self.projected(query, key, value)
        )
        mask = _merged_mask(queries, key_padding_mask, attn_mask)
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
        output = self.result(mixed.transpose(1, 2).flatten(2))
        if scores is not None and average_attn_weights:
            scores = scores.mean(1)
        if not is_batched:
            return output.squeeze(0), None if scores is None else scores.squeeze(0)
        return output if self.batch_first else output.transpose(0, 1), scores


class OpenAttention(ProjectedAttention):
    """An ``nn.MultiheadAttention`` that calls linear layers, which can be quantised one by one.

    Args:
        in_proj: One layer for the queries, keys and values of self-attention, or one for each.
        out_proj: What makes the output.
        num_heads: Heads.
        dropout: Share of the attention weights that training drops.
        batch_first: Whether the batch is the first dimension, not the second.
    """

    # else nn.TransformerEncoderLayer would compute with weights of its own reckoning
    in_proj_bias = None
    _qkv_same_embed_dim = False

    def __init__(
        self,
        in_proj: tuple[nn.Linear, ...],
        out_proj: nn.Linear,
        *,
        num_heads: int,
        dropout: float,
        batch_first: bool,
    ) -> None:
        super().__init__()
        self.in_proj = nn.ModuleList(in_proj)
        self.out_proj = out_proj
        self.num_heads = num_heads
        self.dropout = dropout
        self.batch_first = batch_first

    @override
    def projected(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
        if len(self.in_proj) == 3:
            pairs = zip(self.in_proj, (query, key, value), strict=True)
            return tuple(layer(each) for layer, each in pairs)
        if not (query is key and key is value):
            raise ValueError(
                "query, key and value must be one tensor, as they were in the example that "
                "quantisation was planned with, got different ones; plan it with such a call"
            )
        queries: Tensor = self.in_proj[0](query)
        return queries.chunk(3, -1)

    @override
    def result(self, mixed: Tensor) -> Tensor:
        output: Tensor = self.out_proj(mixed)
        return output


def open_attention(network: nn.Module, name: str, *, is_self: bool) -> list[ParameterSwap]:
    """Put an :class:`OpenAttention` in the place of the ``nn.MultiheadAttention`` called ``name``.

    An ``nn.TransformerEncoder`` around it computes padded batches without nested tensors from then
    on: what it gives for padded positions is then arbitrary, as in training, and not zero.

    Args:
        network: Changed in place.
        name: One that :func:`reason_to_stay_closed` has no objection to.
        is_self: Whether query, key and value are always one tensor. Then a single layer projects
            them all, and every Parameter stays what it is.

    Returns:
        The Parameters that were cut in three.
    """
    closed = network.get_submodule(name)
    assert isinstance(closed, nn.MultiheadAttention)
    weight, bias = closed.in_proj_weight, closed.in_proj_bias
    swaps: list[ParameterSwap] = []
    if weight is not None and is_self:
        layers = [_linear(weight, bias)]
    else:
        own = [closed.q_proj_weight, closed.k_proj_weight, closed.v_proj_weight]
        weights = own if weight is None else _thirds(weight, swaps)
        biases = [None] * 3 if bias is None else _thirds(bias, swaps)
        layers = [_linear(*pair) for pair in zip(weights, biases, strict=True)]
    opened = OpenAttention(
        tuple(layer.train(closed.training) for layer in layers),
        closed.out_proj,
        num_heads=closed.num_heads,
        dropout=closed.dropout,
        batch_first=closed.batch_first,
    )
    opened.training = closed.training
    for module in list(network.modules()):  # under every name that it has
        for child_name, child in list(module._modules.items()):
            if child is closed:
                module._modules[child_name] = opened
    avoid_nested_tensors(network)
    return swaps


def avoid_nested_tensors(network: nn.Module) -> None:
    """Keep each ``nn.TransformerEncoder`` with a :class:`ProjectedAttention` to plain tensors.

    Else, in evaluation, it would pack padded batches for kernels that a closed attention has.
    """
    for encoder in network.modules():
        if isinstance(encoder, nn.TransformerEncoder) and any(
            isinstance(module, ProjectedAttention) for module in encoder.modules()
        ):
            encoder.use_nested_tensor = False


def reason_to_stay_closed(attention: nn.MultiheadAttention) -> str | None:
    """Why :func:`open_attention` cannot take the place of ``attention``; ``None`` if it can."""
    if type(attention).forward not in (nn.MultiheadAttention.forward, ProjectedAttention.forward):
        return "its forward is not that of nn.MultiheadAttention"
    if attention.bias_k is not None or attention.add_zero_attn:
        return "it adds a key of its own"
    parameters = [value for value in attention._parameters.values() if value is not None]
    if not parameters or "parametrizations" in attention._modules:
        return "its weight is computed from others"
    if attention._forward_hooks or attention._forward_pre_hooks:
        return "hooks hang on it"
    return None


def _linear(weight: nn.Parameter, bias: nn.Parameter | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = weight
    if bias is not None:
        layer.bias = bias
    return layer


def _thirds(parameter: nn.Parameter, swaps: list[ParameterSwap]) -> list[nn.Parameter]:
    thirds = [
        nn.Parameter(third.clone(), requires_grad=parameter.requires_grad)
        for third in parameter.detach().chunk(3)
    ]
    swaps.append(ParameterSwap(old=parameter, new=None))
    swaps.extend(ParameterSwap(old=None, new=third) for third in thirds)
    return thirds


def _each(
    function: Callable[[Tensor], Tensor], query: Tensor, key: Tensor, value: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The function of each; the same tensor again where they are the same."""
    found = function(query)
    key_found = found if key is query else function(key)
    return found, key_found, key_found if value is key else function(value)


def _merged_mask(
    queries: Tensor, key_padding_mask: Tensor | None, attn_mask: Tensor | None
) -> Tensor | None:
    """What is added to the scores [batch, heads, queries, keys]."""
    mask = None
    if attn_mask is not None:
        mask = _as_added(attn_mask, queries)
        if mask.dim() == 3:
            mask = mask.reshape(len(queries), -1, *mask.shape[1:])
    if key_padding_mask is not None:
        padding = _as_added(key_padding_mask, queries).reshape(-1, 1, 1, key_padding_mask.shape[-1])
        mask = padding if mask is None else mask + padding
    return mask


def _as_added(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype is not torch.bool:
        return mask.to(like)
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, -math.inf)
