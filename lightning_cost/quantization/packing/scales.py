"""How the scales and the biases of filters are written, without loss."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lightning_cost.quantization.packing.bits import Take, num_packed_bytes
from lightning_cost.quantization.packing.codecs import Integers

POWERS, FLOATS = "powers", "float32"
_REST = np.uint32(0x807FFFFF)
_BIAS_BITS = range(2, 33)


def scale_form(scale: Tensor) -> str:
    """``"powers"`` where every scale [filters] is a power of two, else ``"float32"``.

    >>> scale_form(torch.tensor([0.5, 2.0])), scale_form(torch.tensor([0.5, 3.0]))
    ('powers', 'float32')
    """
    return FLOATS if (_bits_of(scale) & _REST).any() else POWERS


def num_scale_bytes(scale: Tensor) -> int:
    """A byte for the exponent of each scale, or four."""
    return scale.numel() * (1 if scale_form(scale) == POWERS else 4)


def encode_scale(scale: Tensor) -> bytes:
    """``scale`` [filters] in its form."""
    if scale_form(scale) == POWERS:
        return (_bits_of(scale) >> 23).astype(np.uint8).tobytes()
    return encode_floats(scale)


def encode_floats(scale: Tensor) -> bytes:
    """``scale`` [filters] as float32, whatever its numbers."""
    return _bits_of(scale).astype("<u4").tobytes()


def decode_scale(take: Take, form: str, num_filters: int) -> Tensor:
    """The inverse of :func:`encode_scale`."""
    if form == POWERS:
        bits = np.frombuffer(take(num_filters), dtype=np.uint8).astype(np.uint32) << 23
    elif form == FLOATS:
        bits = np.frombuffer(take(4 * num_filters), dtype="<u4").astype(np.uint32)
    else:
        raise ValueError(f"scales in a form {form!r}")
    return torch.from_numpy(bits.view(np.float32).copy())


def bias_bits(values: Tensor) -> int:
    """Bits of the fewest that hold every integer of a bias [filters].

    >>> bias_bits(torch.tensor([-8, 7], dtype=torch.int32))
    4
    """
    array = _signed(values)
    return next(bits for bits in _BIAS_BITS if Integers(bits).num_bytes(array) is not None)


def num_bias_bytes(values: Tensor) -> int:
    """Each integer in the fewest bits that hold them all."""
    return num_packed_bytes(values.numel(), bias_bits(values))


def encode_bias(values: Tensor) -> bytes:
    """A bias [filters] in :func:`bias_bits` bits."""
    return Integers(bias_bits(values)).encode(_signed(values))


def decode_bias(take: Take, bits: int, num_filters: int) -> Tensor:
    """The inverse of :func:`encode_bias`."""
    if bits not in _BIAS_BITS:
        raise ValueError(f"biases of {bits} bits")
    values = Integers(bits).decode(take, 1, num_filters)
    return torch.from_numpy(values.ravel().astype(np.int32))


def _bits_of(scale: Tensor) -> npt.NDArray[np.uint32]:
    bits: npt.NDArray[np.uint32] = scale.detach().cpu().contiguous().numpy().view(np.uint32)
    return bits


def _signed(values: Tensor) -> npt.NDArray[np.int64]:
    return values.detach().cpu().numpy().astype(np.int64)[None]
