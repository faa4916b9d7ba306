"""Weights at equal distances: int8, and fewer bits."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from lightning_cost.quantization.schemes.filters import largest_of, per_filter
from lightning_cost.quantization.schemes.scheme import Scheme


@dataclass(kw_only=True, slots=True)
class Int8(Scheme):
    """Symmetric 8-bit weights with one scale for each filter.

    Args:
        reduced_range: Use 7 bits. On x86 CPUs without VNNI some kernels add pairs of 8-bit
            products in 16 bits, which overflows for large weights; 7 bits cannot.

    >>> values, scale = Int8().quantize_weight(torch.tensor([[1.27, -0.5, 0.004]]))
    >>> values.tolist(), round(scale.item(), 4)
    ([[127, -50, 0]], 0.01)
    """

    name: ClassVar[str] = "int8"
    reduced_range: bool = False

    @property
    @override
    def weight_bits(self) -> float:
        return 7 if self.reduced_range else 8

    @property
    @override
    def levels(self) -> tuple[int, ...]:
        return tuple(range(64 if self.reduced_range else 128))

    @override
    def fit_scale(self, weight: Tensor, previous: Tensor | None = None) -> Tensor:
        return largest_of(weight) / self.levels[-1]

    @override
    def quantize_weight(self, weight: Tensor, scale: Tensor | None = None) -> tuple[Tensor, Tensor]:
        scale = self.fit_scale(weight) if scale is None else scale
        limit = self.levels[-1]
        steps = weight.detach() / per_filter(scale, weight)
        return steps.round().clamp(-limit, limit).to(torch.int8), scale


@dataclass(kw_only=True, slots=True)
class LowBit(Scheme):
    """Symmetric weights of 2 to 8 bits; the scale of each filter has the least squared error.

    Values beyond the grid are clipped, which with few bits costs less than a coarser grid.

    Args:
        bits: Of one weight, its sign included.

    Raises:
        ValueError: If ``bits`` is not in 2 to 8.

    >>> LowBit(bits=3).quantize_weight(torch.tensor([[3.0, -1.0, 0.4, 2.1]]))[0].tolist()
    [[3, -1, 0, 2]]
    """

    name: ClassVar[str] = "low_bit"
    bits: int = 4

    @override
    def __post_init__(self) -> None:
        # no super(): the class that slots make is another one
        Scheme.__post_init__(self)
        if not 2 <= self.bits <= 8:
            raise ValueError(f"bits must be in 2 to 8, got {self.bits}; 4 is usual")

    @property
    @override
    def weight_bits(self) -> float:
        return self.bits

    @property
    @override
    def levels(self) -> tuple[int, ...]:
        return tuple(range(2 ** (self.bits - 1)))
