"""``nn.MultiheadAttention`` with fewer heads than its inputs have room for."""

from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from lightning_cost.network.attention import ProjectedAttention


class PrunedMultiheadAttention(ProjectedAttention, nn.MultiheadAttention):
    """Attention whose heads together are narrower than ``embed_dim``.

    ``nn.MultiheadAttention`` takes them to be as wide, so one that loses heads becomes this. It
    has the same parameters by the same names and takes the same arguments.
    """

    @override
    def projected(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
        """In as few products as ``nn.MultiheadAttention`` takes."""
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

    @override
    def result(self, mixed: Tensor) -> Tensor:
        return functional.linear(mixed, self.out_proj.weight, self.out_proj.bias)


def follow_num_heads(layer: nn.Module) -> None:
    """Make an ``nn.MultiheadAttention`` that has lost heads run with those that it has."""
    if type(layer) is nn.MultiheadAttention and _is_plain(layer):
        layer.__class__ = PrunedMultiheadAttention
        # else whole-layer kernels, which take it to be as wide as its inputs, would run it
        layer._qkv_same_embed_dim = False


def _is_plain(layer: nn.MultiheadAttention) -> bool:
    return layer.bias_k is None and layer.bias_v is None and not layer.add_zero_attn
