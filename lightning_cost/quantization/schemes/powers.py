"""Weights that are sums of powers of two, which hardware without multipliers shifts and adds."""

from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import ClassVar

from typing_extensions import override

from lightning_cost.quantization.schemes.scheme import Scheme

EXPONENTS = range(7)
"""Seven of them, and a code for zero, are what 3 bits tell apart."""
REDUCED_LIMIT = 64
"""Two products of such a weight and an unsigned byte add up in 16 bits without overflow."""
LIMIT = 127
BITS_OF_TERM = 4
"""A sign and 3 bits."""


@cache
def sums_of_powers(num_terms: int, limit: int = LIMIT) -> tuple[int, ...]:
    """The magnitudes up to ``limit`` of sums of at most ``num_terms`` signed powers of two.

    >>> sums_of_powers(0), sums_of_powers(1)
    ((0,), (0, 1, 2, 4, 8, 16, 32, 64))
    >>> [level for level in range(20) if level not in sums_of_powers(2)]
    [11, 13, 19]
    """
    terms = [0, *(sign * 2**exponent for exponent in EXPONENTS for sign in (1, -1))]
    sums = {sum(each) for each in product(terms, repeat=num_terms)}
    return tuple(sorted(value for value in sums if 0 <= value <= limit))


@dataclass(kw_only=True, slots=True)
class PowerOfTwo(Scheme):
    """Each weight is a signed power of two, or the sum of two of them.

    4 bits a term: a sign and three bits of exponent, zero included. The nearest such sum is taken,
    not the one that a greedy choice of the first term gives, and the scale of each filter is free.
    Hardware then needs one multiplication an output, as in int8, but only shifts and additions for
    each weight; a CPU or GPU runs it as int8, exactly and no faster.

    Args:
        terms: 1 or 2.
        reduced_range: Up to 64 only, see :class:`Int8`; one power is never larger.

    Raises:
        ValueError: If ``terms`` is neither.

    Reference:
        Ding et al., "LightNN: Filling the Gap between Conventional Deep Neural Networks and
        Binarized Networks", 2017.

    >>> import torch
    >>> PowerOfTwo().quantize_weight(torch.tensor([[64.0, -30.0, 3.0, 0.0]]), torch.ones(1))[0]
    tensor([[ 64, -32,   2,   0]], dtype=torch.int8)
    """

    name: ClassVar[str] = "power_of_two"
    terms: int = 1
    reduced_range: bool = False

    @override
    def __post_init__(self) -> None:
        # no super(): the class that slots make is another one
        Scheme.__post_init__(self)
        if self.terms not in (1, 2):
            raise ValueError(f"terms must be 1 or 2, got {self.terms}; int8 has more levels")

    @property
    @override
    def weight_bits(self) -> float:
        return BITS_OF_TERM * self.terms

    @property
    @override
    def levels(self) -> tuple[int, ...]:
        return sums_of_powers(self.terms, REDUCED_LIMIT if self.reduced_range else LIMIT)


@dataclass(kw_only=True, slots=True)
class APoT(Scheme):
    """4-bit weights whose magnitudes are sums of one power of two from each of two sets.

    {0, 1, 4, 8} + {0, 2}: 0, 1, 2, 3, 4, 6, 8 and 10 hold more levels near the largest
    weights than powers of two alone. The scale of each filter has the least squared error.

    Reference:
        Li, Dong and Wang, "Additive Powers-of-Two Quantization", ICLR 2020.

    >>> import torch
    >>> APoT().quantize_weight(torch.tensor([[10.0, -4.9, 7.2]]), torch.ones(1))[0].tolist()
    [[10, -4, 8]]
    """

    name: ClassVar[str] = "apot"

    @property
    @override
    def weight_bits(self) -> float:
        return 4

    @property
    @override
    def levels(self) -> tuple[int, ...]:
        return (0, 1, 2, 3, 4, 6, 8, 10)
