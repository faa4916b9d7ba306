import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.quantization.packing.bits import num_packed_bytes, pack_bits, unpack_bits


@given(st.integers(1, 32), st.data())
def test_packing_is_writing_binary_digits_one_after_another(bits, data):
    codes = data.draw(st.lists(st.integers(0, 2**bits - 1), max_size=20))
    packed = pack_bits(np.array(codes, dtype=np.int64), bits)
    digits = "".join(format(code, f"0{bits}b") for code in reversed(codes))
    assert packed == int(digits or "0", 2).to_bytes(num_packed_bytes(len(codes), bits), "little")
    assert unpack_bits(lambda count: packed[:count], bits, len(codes)).tolist() == codes


@pytest.mark.parametrize(("count", "bits", "size"), [(0, 4, 0), (1, 4, 1), (3, 3, 2), (8, 3, 3)])
def test_size(count, bits, size):
    assert num_packed_bytes(count, bits) == size
