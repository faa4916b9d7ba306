import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.quantization.packing.codecs import CODECS, Integers, smallest_codec

POWERS = [0, *(sign * 2**exponent for exponent in range(7) for sign in (1, -1))]
SUMS = sorted({a + b for a in POWERS for b in POWERS if abs(a + b) < 128})
APOT = [sign * size for size in (0, 1, 2, 3, 4, 6, 8, 10) for sign in (1, -1)]
VALUES = {
    "power_of_two": POWERS,
    "powers_per_filter": SUMS,
    "apot": APOT,
    "two_powers": SUMS,
    **{f"int{bits}": range(-(2 ** (bits - 1)), 2 ** (bits - 1)) for bits in range(2, 9)},
}
shapes = st.tuples(st.integers(0, 5), st.integers(0, 7))


def reader(data):
    rest = [data]

    def take(count):
        part, rest[0] = rest[0][:count], rest[0][count:]
        assert len(part) == count
        return part

    return take, rest


@st.composite
def matrices(draw, values):
    rows, columns = draw(shapes)
    flat = st.lists(st.sampled_from(list(values)), min_size=rows * columns, max_size=rows * columns)
    return np.array(draw(flat), dtype=np.int8).reshape(rows, columns)


@pytest.mark.parametrize("name", CODECS)
@given(data=st.data())
def test_decoded_is_encoded_and_the_size_is_the_formula(name, data):
    values = data.draw(matrices(VALUES[name]))
    codec = CODECS[name]
    encoded = codec.encode(values)
    assert len(encoded) == codec.num_bytes(values)
    take, rest = reader(encoded)
    assert np.array_equal(codec.decode(take, *values.shape), values)
    assert rest == [b""]


@pytest.mark.parametrize("name", CODECS)
def test_codec_takes_exactly_its_values(name):
    taken = [
        value
        for value in range(-128, 128)
        if CODECS[name].num_bytes(np.array([[value]], dtype=np.int8)) is not None
    ]
    assert taken == sorted(set(VALUES[name]))


@pytest.mark.parametrize(("name", "count"), [("power_of_two", 15), ("apot", 15), ("int4", 16)])
def test_number_of_values(name, count):
    assert len(set(VALUES[name])) == count


@given(st.sampled_from(list(VALUES)), st.data())
def test_smallest_codec_is_the_smallest_that_fits(name, data):
    values = data.draw(matrices(VALUES[name]))
    size = smallest_codec(values).num_bytes(values)
    sizes = [codec.num_bytes(values) for codec in CODECS.values()]
    assert size == min(one for one in sizes if one is not None)


def test_bytes_of_filters_with_as_many_powers_as_they_need():
    values = np.zeros((6, 9), dtype=np.int8)
    values[1], values[2], values[3, 4] = 64, -2, 3
    codec = CODECS["powers_per_filter"]
    # two bits for each of six filters; 9 + 9 + 18 nibbles
    assert codec.num_bytes(values) == 2 + 18
    assert smallest_codec(values).name in ("powers_per_filter",)


def test_powers_are_preferred_to_integers_of_the_same_size():
    assert smallest_codec(np.array([[64, 1], [0, -2]])).name == "power_of_two"
    assert smallest_codec(np.array([[96, 1], [3, -12]])).name == "two_powers"
    assert smallest_codec(np.array([[5, 1], [-8, -2]])).name == "int4"
    assert smallest_codec(np.array([[11, 64], [-100, -2]])).name == "int8"


def test_impossible_number_of_powers():
    take, _ = reader(bytes([3]))
    with pytest.raises(ValueError, match="three powers"):
        CODECS["powers_per_filter"].decode(take, 1, 4)


@given(st.integers(2, 32), st.data())
def test_integers_of_any_width(bits, data):
    limit = 2 ** (bits - 1)
    flat = data.draw(st.lists(st.integers(-limit, limit - 1), max_size=9))
    values = np.array([flat], dtype=np.int64)
    codec = Integers(bits)
    take, _ = reader(codec.encode(values))
    assert np.array_equal(codec.decode(take, 1, len(flat)), values)
    assert codec.num_bytes(np.array([[limit]])) is None
