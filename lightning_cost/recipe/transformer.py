"""Training compute of a transformer given by its dimensions: 6 FLOPs a weight and token, and more.

Kaplan et al., *Scaling laws for neural language models*, 2020, section 2.1: a token takes 2 FLOPs a
weight forward and 4 backward; attention over the context comes on top.
"""

import math
from dataclasses import dataclass, fields


@dataclass(kw_only=True, slots=True)
class Transformer:
    """A decoder-only transformer, and how much text it is trained on.

    Args:
        num_layers: Blocks of attention and feed-forward.
        width: Of the residual stream.
        tokens: Tokens that it is trained on.
        context: Tokens that attend to each other.
        vocabulary: Different tokens.
        feedforward: Width of the feed-forward layers; ``None`` for four times ``width``.
        feedforward_matrices: 2, or 3 where they are gated.
        kv_ratio: Width of keys and values, as a share of ``width``.

    Raises:
        ValueError: If only some of layers, width and tokens are given, or a number is not positive.

    >>> gpt3 = Transformer(num_layers=96, width=12288, tokens=300e9)
    >>> f"{gpt3.num_weights:.4g} {gpt3.weight_flops:.3g} {gpt3.attention_flops:.3g}"
    '1.746e+11 3.14e+23 8.7e+21'
    """

    num_layers: int | None = None
    width: int | None = None
    tokens: float | None = None
    context: int = 2048
    vocabulary: int = 50257
    feedforward: int | None = None
    feedforward_matrices: int = 2
    kv_ratio: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(
                    f"transformer.{field.name} must be > 0, got {value}; "
                    "see Transformer for what it counts"
                )
        needed = ("num_layers", "width", "tokens")
        missing = [name for name in needed if getattr(self, name) is None]
        if self.is_given and missing:
            raise ValueError(
                f"transformer must be given by {', '.join(needed)}, got no {', '.join(missing)}; "
                f"set transformer.{missing[0]}="
            )

    @property
    def is_given(self) -> bool:
        """Whether there is a transformer at all."""
        return any(value is not None for value in (self.num_layers, self.width, self.tokens))

    @property
    def num_weights(self) -> float:
        """Weights that multiply: of all layers, and of the output's choice of a token."""
        layers, width, _ = self._sizes()
        feedforward = 4 * width if self.feedforward is None else self.feedforward
        attention = width**2 * (2 + 2 * self.kv_ratio)
        block = attention + self.feedforward_matrices * width * feedforward
        return layers * block + self.vocabulary * width

    @property
    def weight_flops(self) -> float:
        """FLOPs of training that weights take: 6 for each weight and token."""
        return 6 * self.num_weights * self._sizes()[2]

    @property
    def attention_flops(self) -> float:
        """FLOPs of training for scores and their weighted sums, over the whole context."""
        layers, width, tokens = self._sizes()
        return 3 * 2 * 2 * layers * width * self.context * tokens

    @property
    def flops(self) -> float:
        """FLOPs of training."""
        return self.weight_flops + self.attention_flops

    def _sizes(self) -> tuple[int, int, float]:
        assert self.num_layers is not None
        assert self.width is not None
        assert self.tokens is not None
        return self.num_layers, self.width, self.tokens
