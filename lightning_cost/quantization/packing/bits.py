"""Whole numbers of few bits, one directly after another."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Codes: TypeAlias = npt.NDArray[np.uint32]
Take: TypeAlias = Callable[[int], bytes]
"""The next so many bytes of what is read; refuses more than there are."""


def num_packed_bytes(count: int, bits: int) -> int:
    """Bytes that ``count`` numbers of ``bits`` bits take, the last byte filled up.

    >>> num_packed_bytes(3, 4)
    2
    """
    return -(-count * bits // 8)


def pack_bits(codes: npt.NDArray[Any], bits: int) -> bytes:
    """``codes`` in [0, 2 ** bits), the lowest bits of the first one first.

    >>> pack_bits(np.array([1, 2, 15]), 4).hex()
    '210f'
    """
    flat = codes.ravel()
    if bits == 8:
        return flat.astype(np.uint8).tobytes()
    if bits == 4:
        low, high = flat[::2].astype(np.uint8), flat[1::2].astype(np.uint8)
        low[: len(high)] |= high << 4
        return low.tobytes()
    planes = flat.astype(np.uint32)[:, None] >> np.arange(bits, dtype=np.uint32) & 1
    return np.packbits(planes.astype(np.uint8), bitorder="little").tobytes()


def unpack_bits(take: Take, bits: int, count: int) -> Codes:
    """The next ``count`` codes that :func:`pack_bits` wrote.

    >>> unpack_bits(lambda num_bytes: bytes.fromhex("210f"), 4, 3).tolist()
    [1, 2, 15]
    """
    packed = np.frombuffer(take(num_packed_bytes(count, bits)), dtype=np.uint8)
    if bits == 8:
        return packed.astype(np.uint32)
    if bits == 4:
        nibbles = np.stack([packed & 15, packed >> 4], axis=1)
        return nibbles.ravel()[:count].astype(np.uint32)
    planes = np.unpackbits(packed, bitorder="little", count=count * bits).reshape(count, bits)
    weights = np.uint32(1) << np.arange(bits, dtype=np.uint32)
    codes: Codes = (planes * weights).sum(axis=1, dtype=np.uint32)
    return codes
