"""Sums of powers of two with as many terms as each filter needs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from typing_extensions import override

from lightning_cost.quantization.schemes.powers import (
    BITS_OF_TERM,
    LIMIT,
    REDUCED_LIMIT,
    sums_of_powers,
)
from lightning_cost.quantization.schemes.scheme import Scheme
from lightning_cost.quantization.settings import require_type

MOST_TERMS = 2


@dataclass(kw_only=True, slots=True)
class FLightNN(Scheme):
    """Each filter is a sum of zero, one or two powers of two for each weight, as training decides.

    Which filters get how many follows from thresholds that are trained, one a filter and term; a
    controller keeps the mean over all weights at ``mean_terms`` in every step, so that the size is
    known beforehand and no penalty needs to be weighed. A weight takes ``4 * mean_terms`` bits.

    A filter of zero terms has zeros for weights, which take no room in a packed file. It is not
    removed: its channel stays, and with it the MACs and the bytes of an ONNX file. Channels are
    removed by pruning, before quantisation.

    Args:
        mean_terms: Terms of a weight, on average over the weights of the network's layers with
            this scheme; in (0, 2].
        max_bytes: In place of ``mean_terms`` the bytes that these weights may take in a packed
            file, two bits a filter for its number of terms included, scales not. From the shapes
            of the layers follows ``mean_terms``, see :meth:`within_bytes`.
        reduced_range: Up to 64 only, see :class:`Int8`.

    Raises:
        ValueError: If a number is out of range, or both are given.

    Reference:
        Ding et al., "FLightNNs: Lightweight Quantized Deep Neural Networks for Fast and Accurate
        Inference", DAC 2019. There the penalty's weight is swept; the controller is ours.
    """

    name: ClassVar[str] = "flightnn"
    mean_terms: float = 1.3
    reduced_range: bool = False
    max_bytes: int | None = None

    @override
    def __post_init__(self) -> None:
        # no super(): the class that slots make is another one
        Scheme.__post_init__(self)
        if not 0 < self.mean_terms <= MOST_TERMS:
            raise ValueError(
                f"mean_terms must be in (0, {MOST_TERMS}], got {self.mean_terms}; 1.3 is usual"
            )
        if self.max_bytes is not None:
            require_type("max_bytes of scheme 'flightnn'", self.max_bytes, 100_000)
            if self.mean_terms != FLightNN().mean_terms:
                raise ValueError(
                    "mean_terms must be left out where max_bytes is given, got both: it follows "
                    "from the bytes"
                )

    def within_bytes(self, filters: Sequence[tuple[int, int]]) -> "FLightNN":
        """This scheme with the ``mean_terms`` that ``max_bytes`` leave room for.

        Args:
            filters: Of each layer the number of filters, and of the weights of one.

        Raises:
            ValueError: If the bytes do not hold one term anywhere.

        >>> FLightNN(max_bytes=50).within_bytes([(8, 9)])
        FLightNN(mean_terms=1.3194444444444444, reduced_range=False, max_bytes=None)
        """
        assert self.max_bytes is not None
        num_weights = sum(num * size for num, size in filters)
        # each layer's map and nibbles begin at a whole byte
        fixed = sum(math.ceil(2 * num / 8) for num, _ in filters) + len(filters) / 2
        num_terms = math.floor((self.max_bytes - fixed) * 8 / BITS_OF_TERM)
        if num_terms < 1:
            least = math.ceil(fixed + BITS_OF_TERM / 8)
            raise ValueError(
                f"max_bytes must be >= {least}, which the numbers of terms of these layers' "
                f"filters take alone, got {self.max_bytes}; allow more"
            )
        mean_terms = min(MOST_TERMS, num_terms / num_weights)
        return replace(self, max_bytes=None, mean_terms=mean_terms)

    @property
    @override
    def weight_bits(self) -> float:
        return BITS_OF_TERM * self.mean_terms

    @property
    @override
    def levels(self) -> tuple[int, ...]:
        return self.levels_of(MOST_TERMS)

    def levels_of(self, num_terms: int) -> tuple[int, ...]:
        """The magnitudes of a filter with ``num_terms`` terms."""
        return sums_of_powers(num_terms, REDUCED_LIMIT if self.reduced_range else LIMIT)
