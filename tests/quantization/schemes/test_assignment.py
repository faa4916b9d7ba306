import pytest

from lightning_cost.quantization.schemes.assignment import assign_schemes, with_reduced_range
from lightning_cost.quantization.schemes.flightnn import FLightNN
from lightning_cost.quantization.schemes.powers import APoT, PowerOfTwo
from lightning_cost.quantization.schemes.uniform import Int8, LowBit

LAYERS = ["stem", "blocks.0", "blocks.1", "head"]


def test_ends_have_eight_bits_below_eight():
    four = LowBit(bits=4)
    assert assign_schemes(LAYERS, four, {}) == {
        "stem": Int8(),
        "blocks.0": four,
        "blocks.1": four,
        "head": Int8(),
    }
    for scheme in (PowerOfTwo(terms=2), Int8(), Int8(reduced_range=True)):
        assert set(map(repr, assign_schemes(LAYERS, scheme, {}).values())) == {repr(scheme)}


def test_the_last_pattern_that_matches_counts():
    two, three = LowBit(bits=2), LowBit(bits=3)
    found = assign_schemes(LAYERS, Int8(), {"*": two, "blocks.?": three, "blocks.1": two})
    assert found == {"stem": two, "blocks.0": three, "blocks.1": two, "head": two}


def test_a_pattern_that_matches_nothing():
    message = r"overrides must match layers that are quantised, got 'blok\*'; choose among 'stem'"
    with pytest.raises(ValueError, match=message):
        assign_schemes(LAYERS, Int8(), {"blok*": Int8()})


@pytest.mark.parametrize(
    ("scheme", "reduced"),
    [
        (Int8(), Int8(reduced_range=True)),
        (Int8(reduced_range=True), Int8(reduced_range=True)),
        (LowBit(bits=8), LowBit(bits=7)),
        (LowBit(bits=3), LowBit(bits=3)),
        (PowerOfTwo(), PowerOfTwo()),
        (PowerOfTwo(terms=2), PowerOfTwo(terms=2, reduced_range=True)),
        (FLightNN(mean_terms=1.5), FLightNN(mean_terms=1.5, reduced_range=True)),
        (APoT(), APoT()),
    ],
)
def test_reduced_range_holds_two_products_in_16_bits(scheme, reduced):
    found = with_reduced_range(scheme)
    assert found == reduced
    assert with_reduced_range(found) == found
    assert 2 * 255 * found.levels[-1] < 2**15
