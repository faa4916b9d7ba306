import itertools

import pytest

from lightning_cost.quantization.schemes.flightnn import FLightNN
from lightning_cost.quantization.schemes.powers import APoT, PowerOfTwo, sums_of_powers

CODES = [0, *(sign * 2**exponent for exponent in range(7) for sign in (1, -1))]


def test_four_bits_a_term_tell_all_of_them_apart():
    assert len(CODES) == 15 <= 2**4
    assert set(PowerOfTwo().levels) == {abs(code) for code in CODES}


def test_two_terms_are_all_sums_within_int8():
    sums = {abs(a + b) for a, b in itertools.product(CODES, repeat=2)}
    assert set(sums_of_powers(2)) == {value for value in sums if value <= 127}
    assert PowerOfTwo(terms=2).levels == FLightNN().levels == sums_of_powers(2)


def test_apot_has_the_levels_of_the_paper():
    # of 4 bits: {0, 2^0, 2^-1, 2^-3} + {0, 2^-2}, here in eighths
    first, second = (0, 8, 4, 1), (0, 2)
    assert APoT().levels == tuple(sorted(a + b for a, b in itertools.product(first, second)))


def test_bits():
    assert [PowerOfTwo(terms=terms).weight_bits for terms in (1, 2)] == [4, 8]
    assert FLightNN(mean_terms=1.5).weight_bits == 6
    assert APoT().weight_bits == 4


@pytest.mark.parametrize("terms", [0, 3])
def test_terms_out_of_range(terms):
    with pytest.raises(ValueError, match=f"terms must be 1 or 2, got {terms}; int8 has more"):
        PowerOfTwo(terms=terms)


@pytest.mark.parametrize("mean_terms", [0, 2.1])
def test_mean_terms_out_of_range(mean_terms):
    with pytest.raises(ValueError, match=rf"mean_terms must be in \(0, 2\], got {mean_terms}"):
        FLightNN(mean_terms=mean_terms)
