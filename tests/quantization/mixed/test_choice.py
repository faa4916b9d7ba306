import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.cost.resource import Resource
from lightning_cost.quantization.mixed.choice import (
    Option,
    fewest_costs,
    least_harm,
    total_cost,
)
from lightning_cost.quantization.schemes.uniform import LowBit

SIZE, ENERGY = Resource.size_bytes, Resource.energy_mj
harms = st.integers(0, 1000).map(lambda value: value / 1000)


@st.composite
def layers(draw):
    """Up to five layers of up to three options each, with costs in bytes and millijoules."""
    drawn = draw(
        st.lists(
            st.lists(
                st.tuples(harms, st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=3
            ),
            min_size=1,
            max_size=5,
        )
    )
    return {
        f"layer{place}": [
            Option(scheme=LowBit(bits=2 + each), harm=harm, costs={SIZE: size, ENERGY: energy / 8})
            for each, (harm, size, energy) in enumerate(options)
        ]
        for place, options in enumerate(drawn)
    }


def every_choice(options):
    for chosen in itertools.product(*options.values()):
        yield dict(zip(options, chosen, strict=True))


@given(layers(), st.integers(1, 120), st.integers(1, 120))
def test_no_other_choice_within_the_limits_harms_less(options, size, energy):
    limits = {SIZE: size, ENERGY: energy / 8}
    within = [
        sum(option.harm for option in choice.values())
        for choice in every_choice(options)
        if all(total_cost(list(choice.values()), each) <= limits[each] for each in limits)
    ]
    if not within:
        with pytest.raises(ValueError, match="must leave room for the cheapest scheme"):
            least_harm(options, limits)
        return
    found = least_harm(options, limits)
    assert list(found) == list(options)
    assert all(total_cost(list(found.values()), each) <= limits[each] for each in limits)
    assert sum(option.harm for option in found.values()) == pytest.approx(min(within), abs=1e-6)


@given(layers())
def test_a_wider_limit_never_harms_more(options):
    low = fewest_costs(options, SIZE)
    before = math.inf
    for limit in (low, 1.2 * low, 2 * low, 100 * low):
        now = sum(option.harm for option in least_harm(options, {SIZE: limit}).values())
        assert now <= before + 1e-9
        before = now


def test_of_equally_harmful_options_the_cheaper_one_is_taken():
    options = {
        "a": [
            Option(scheme=LowBit(bits=8), harm=0.5, costs={SIZE: 8}),
            Option(scheme=LowBit(bits=4), harm=0.5, costs={SIZE: 4}),
        ]
    }
    assert least_harm(options, {SIZE: 100})["a"].scheme.bits == 4


def test_what_leaves_no_finite_output_is_not_taken_though_it_is_cheap():
    wild = Option(scheme=LowBit(bits=2), harm=math.inf, costs={SIZE: 1})
    calm = Option(scheme=LowBit(bits=8), harm=0.1, costs={SIZE: 4})
    assert least_harm({"a": [wild, calm]}, {SIZE: 10})["a"] is calm
    with pytest.raises(ValueError, match="must leave room"):
        least_harm({"a": [wild, calm]}, {SIZE: 2})
    with pytest.raises(ValueError, match="leaves the output finite, got none for 'a'"):
        least_harm({"a": [wild]}, {SIZE: 10})


def test_an_unreachable_limit_names_the_nearest():
    options = {"a": [Option(scheme=LowBit(bits=4), harm=0.0, costs={SIZE: 40})]}
    with pytest.raises(ValueError, match=r"got size_bytes <= 20 B .*nearest reachable: 40 B"):
        least_harm(options, {SIZE: 20})
