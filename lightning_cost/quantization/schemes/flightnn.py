"""Sums of powers of two with as many terms as each filter needs."""

from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from lightning_cost.quantization.schemes.powers import (
    BITS_OF_TERM,
    LIMIT,
    REDUCED_LIMIT,
    sums_of_powers,
)
from lightning_cost.quantization.schemes.scheme import Scheme

MOST_TERMS = 2


@dataclass(kw_only=True, slots=True)
class FLightNN(Scheme):
    """Each filter is a sum of zero, one or two powers of two for each weight, as training decides.

    Which filters get how many follows from thresholds that are trained, one a filter and term; a
    controller keeps the mean over all weights at ``mean_terms`` in every step, so that the size is
    known beforehand and no penalty needs to be weighed. That mean is the budget, there is none in
    bytes: a weight takes ``4 * mean_terms`` bits.

    A filter of zero terms has zeros for weights, which take no room in a packed file. It is not
    removed: its channel stays, and with it the MACs and the bytes of an ONNX file. Channels are
    removed by pruning, before quantisation.

    Args:
        mean_terms: Terms of a weight, on average over the weights of the network's layers with
            this scheme; in (0, 2].
        reduced_range: Up to 64 only, see :class:`Int8`.

    Raises:
        ValueError: If ``mean_terms`` is out of range.

    Reference:
        Ding et al., "FLightNNs: Lightweight Quantized Deep Neural Networks for Fast and Accurate
        Inference", DAC 2019. There the penalty's weight is swept; the controller is ours.
    """

    name: ClassVar[str] = "flightnn"
    mean_terms: float = 1.3
    reduced_range: bool = False

    @override
    def __post_init__(self) -> None:
        # no super(): the class that slots make is another one
        Scheme.__post_init__(self)
        if not 0 < self.mean_terms <= MOST_TERMS:
            raise ValueError(
                f"mean_terms must be in (0, {MOST_TERMS}], got {self.mean_terms}; 1.3 is usual"
            )

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
