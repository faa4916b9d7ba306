"""How integer weights are written in few bits, without loss."""

from abc import ABC, abstractmethod
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from lightning_cost.quantization.packing.bits import (
    Take,
    num_packed_bytes,
    pack_bits,
    unpack_bits,
)

Values: TypeAlias = npt.NDArray[np.signedinteger[Any]]
"""Integers of shape [filters, weights of a filter]."""

_UNKNOWN = 255


class Codec(ABC):
    """One way to write integers [filters, weights of a filter] down."""

    name: str

    @abstractmethod
    def num_bytes(self, values: Values) -> int | None:
        """Bytes that ``values`` take, by the formula; ``None`` if they cannot be written so."""

    @abstractmethod
    def encode(self, values: Values) -> bytes:
        """``values``, which fit, as that many bytes."""

    @abstractmethod
    def decode(self, take: Take, num_filters: int, num_weights: int) -> Values:
        """The inverse of :meth:`encode`.

        Args:
            take: Gives the next so many bytes.
            num_filters: Filters to read.
            num_weights: Weights of each filter.
        """


class Integers(Codec):
    """Two's complement in ``bits`` bits.

    >>> codec = Integers(3)
    >>> codec.num_bytes(np.array([[-4, 3, 0]])), codec.num_bytes(np.array([[4]]))
    (2, None)
    """

    def __init__(self, bits: int) -> None:
        self.name = f"int{bits}"
        self._bits = bits

    @override
    def num_bytes(self, values: Values) -> int | None:
        limit = 2 ** (self._bits - 1)
        if values.size and (values.min() < -limit or values.max() >= limit):
            return None
        return num_packed_bytes(values.size, self._bits)

    @override
    def encode(self, values: Values) -> bytes:
        return pack_bits(values.astype(np.int64) & (2**self._bits - 1), self._bits)

    @override
    def decode(self, take: Take, num_filters: int, num_weights: int) -> Values:
        codes = unpack_bits(take, self._bits, num_filters * num_weights).astype(np.int64)
        signed = codes - (codes >> (self._bits - 1) << self._bits)
        return signed.reshape(num_filters, num_weights)


class Nibbles(Codec):
    """Four bits for each weight: a sign, and one of eight magnitudes, the first of which is 0."""

    def __init__(self, name: str, magnitudes: list[int]) -> None:
        self.name = name
        self._values = np.array([*magnitudes, *(-each for each in magnitudes)], dtype=np.int8)
        self._codes = _codes_of(self._values)

    @override
    def num_bytes(self, values: Values) -> int | None:
        codes = _look_up(self._codes, values)
        return None if (codes == _UNKNOWN).any() else num_packed_bytes(values.size, 4)

    @override
    def encode(self, values: Values) -> bytes:
        return pack_bits(_look_up(self._codes, values), 4)

    @override
    def decode(self, take: Take, num_filters: int, num_weights: int) -> Values:
        codes = unpack_bits(take, 4, num_filters * num_weights)
        return self._values[codes].reshape(num_filters, num_weights)


class TwoTerms(Codec):
    """Eight bits for each weight: the sum of two powers of two, as two nibbles of shift and sign.

    >>> codec = TwoTerms()
    >>> codec.encode(np.array([[96, 0, -3, 1]])).hex()
    '67001b01'
    """

    name = "two_powers"

    @override
    def num_bytes(self, values: Values) -> int | None:
        return values.size if (_terms(values) <= 2).all() else None

    @override
    def encode(self, values: Values) -> bytes:
        return pack_bits(_look_up(_TWO_POWERS_CODES, values), 8)

    @override
    def decode(self, take: Take, num_filters: int, num_weights: int) -> Values:
        codes = unpack_bits(take, 8, num_filters * num_weights)
        return _TWO_POWERS[codes].reshape(num_filters, num_weights)


class TermsPerFilter(Codec):
    """Each filter in as many powers of two as it needs: none, one or two.

    First two bits for each filter, its number of powers; then, filter by filter, a nibble for
    each power of each weight.
    """

    name = "powers_per_filter"

    @override
    def num_bytes(self, values: Values) -> int | None:
        terms = _terms(values)
        if (terms > 2).any():
            return None
        counts = terms.max(axis=1, initial=0)
        num_nibbles = int(counts.sum(dtype=np.int64)) * values.shape[1]
        return num_packed_bytes(len(values), 2) + num_packed_bytes(num_nibbles, 4)

    @override
    def encode(self, values: Values) -> bytes:
        counts = _terms(values).max(axis=1, initial=0)
        one, two = _look_up(_POWERS_CODES, values), _look_up(_TWO_POWERS_CODES, values)
        pairs = np.stack([two & 15, two >> 4], axis=-1).reshape(len(values), 2 * values.shape[1])
        nibbles = [
            (one, pairs)[count - 1][index] for index, count in enumerate(counts.tolist()) if count
        ]
        stream = np.concatenate(nibbles) if nibbles else np.zeros(0, dtype=np.uint8)
        return pack_bits(counts, 2) + pack_bits(stream, 4)

    @override
    def decode(self, take: Take, num_filters: int, num_weights: int) -> Values:
        counts = unpack_bits(take, 2, num_filters).astype(np.int64)
        if (counts > 2).any():
            raise ValueError("a filter of three powers of two")
        stream = unpack_bits(take, 4, int(counts.sum()) * num_weights).astype(np.int64)
        values = np.zeros((num_filters, num_weights), dtype=np.int8)
        starts = np.concatenate([[0], np.cumsum(counts * num_weights)])
        for index, count in enumerate(counts.tolist()):
            terms = _POWERS[stream[starts[index] : starts[index + 1]]]
            if count:
                values[index] = terms.reshape(num_weights, count).sum(axis=1)
        return values


def smallest_codec(values: Values) -> Codec:
    """The codec that writes ``values``, within -128 to 127, in the fewest bytes.

    Of equally small ones the one that tells most about them: powers of two before integers.

    >>> smallest_codec(np.array([[64, -1, 0, 2]])).name
    'power_of_two'
    >>> smallest_codec(np.array([[127, -1, 0, 2]])).name
    'int8'
    """
    sizes = {name: codec.num_bytes(values) for name, codec in CODECS.items()}
    fitting = {name: size for name, size in sizes.items() if size is not None}
    return CODECS[min(fitting, key=lambda name: fitting[name])]


def _codes_of(values: npt.NDArray[np.int8]) -> npt.NDArray[np.uint8]:
    """For each int8, as an index of 0 to 255, the first place in ``values`` that holds it."""
    codes = np.full(256, _UNKNOWN, dtype=np.uint8)
    for code in reversed(range(len(values))):
        codes[int(values[code]) & 255] = code
    return codes


def _look_up(table: npt.NDArray[np.uint8], values: Values) -> npt.NDArray[np.uint8]:
    found: npt.NDArray[np.uint8] = table[values.astype(np.int64) & 255]
    return found


def _terms(values: Values) -> npt.NDArray[np.uint8]:
    """How many powers of two each of ``values`` is a sum of, 3 for more than two."""
    return _look_up(_NUM_TERMS, values)


def _two_powers() -> npt.NDArray[np.int8]:
    """The values of all 256 pairs of nibbles; what no int8 holds counts as 0."""
    pairs = _POWERS.astype(np.int64)[:, None] + _POWERS.astype(np.int64)
    return np.where(abs(pairs) < 128, pairs, 0).ravel().astype(np.int8)


def _two_powers_codes() -> npt.NDArray[np.uint8]:
    """The pair of nibbles of each int8; 0 for what is no sum of two powers."""
    codes = _codes_of(_TWO_POWERS)
    return np.where(_NUM_TERMS <= 2, codes, 0).astype(np.uint8)


def _num_terms() -> npt.NDArray[np.uint8]:
    terms = np.full(256, 3, dtype=np.uint8)
    terms[_TWO_POWERS.astype(np.int64) & 255] = 2
    terms[_POWERS.astype(np.int64) & 255] = 1
    terms[0] = 0
    return terms


_MAGNITUDES = [0, *(2**exponent for exponent in range(7))]
_POWERS = np.array([*_MAGNITUDES, *(-each for each in _MAGNITUDES)], dtype=np.int8)
_POWERS_CODES = _codes_of(_POWERS)
_TWO_POWERS = _two_powers()
_NUM_TERMS = _num_terms()
_TWO_POWERS_CODES = _two_powers_codes()

CODECS: dict[str, Codec] = {
    codec.name: codec
    for codec in (
        Nibbles("power_of_two", _MAGNITUDES),
        TermsPerFilter(),
        Nibbles("apot", [0, 1, 2, 3, 4, 6, 8, 10]),
        TwoTerms(),
        *(Integers(bits) for bits in range(2, 9)),
    )
}
"""Every codec of weights by its name, the more telling ones first."""
