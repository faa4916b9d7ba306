import json
import math

import pytest
from omegaconf import OmegaConf

from lightning_cost.quantization.schemes.flightnn import FLightNN
from lightning_cost.quantization.schemes.powers import APoT, PowerOfTwo
from lightning_cost.quantization.schemes.registry import (
    SCHEMES,
    get_scheme,
    get_schemes,
    scheme_from_dict,
)
from lightning_cost.quantization.schemes.uniform import Int8, LowBit

ALL = [
    Int8(),
    Int8(reduced_range=True),
    LowBit(bits=3),
    PowerOfTwo(terms=2),
    FLightNN(mean_terms=1.7),
    APoT(),
]


def test_all_are_here():
    assert {type(scheme) for scheme in ALL} == set(SCHEMES.values())


@pytest.mark.parametrize("scheme", ALL)
def test_to_dict_and_back(scheme):
    assert scheme_from_dict(json.loads(json.dumps(scheme.to_dict()))) == scheme


@pytest.mark.parametrize("scheme", ALL)
def test_levels_ascend_from_zero_within_int8(scheme):
    levels = scheme.levels
    assert levels[0] == 0
    assert list(levels) == sorted(set(levels))
    assert levels[-1] <= 127


@pytest.mark.parametrize("scheme", ALL)
def test_is_a_hydra_schema(scheme):
    settings = {key: value for key, value in scheme.to_dict().items() if key != "name"}
    config = OmegaConf.merge(OmegaConf.structured(type(scheme)), settings)
    assert OmegaConf.to_object(config) == scheme


def test_get_scheme():
    scheme = Int8(reduced_range=True)
    assert get_scheme(scheme) is scheme
    assert get_scheme("int8") == Int8()
    assert [get_scheme(f"int{bits}") for bits in range(2, 8)] == [
        LowBit(bits=bits) for bits in range(2, 8)
    ]
    assert get_scheme("power_of_two_2") == PowerOfTwo(terms=2)
    assert get_scheme({"name": "flightnn", "mean_terms": 1}) == FLightNN(mean_terms=1)


@pytest.mark.parametrize("name", ["int9", None, "", "Int8"])
def test_unknown_scheme(name):
    with pytest.raises(ValueError, match=f"scheme must be one of 'int8', .*, got {name!r}; choose"):
        get_scheme({"name": name})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": "int4", "bits": 8}, "bits must be 4 in a scheme 'int4', got 8; leave it out"),
        ({"name": "power_of_two_2", "terms": 1}, "terms must be 2 in a scheme 'power_of_two_2'"),
        ({"name": "flightnn", "mean_terms": 1.5, "max_bytes": 9}, "mean_terms must be left out"),
        ({"name": "flightnn", "max_bytes": 9.5}, "max_bytes of scheme 'flightnn' must be a whole"),
    ],
)
def test_settings_that_contradict_one_another(given, said):
    with pytest.raises(ValueError, match=said):
        get_scheme(given)
    assert get_scheme({"name": "int4", "bits": 4}) == LowBit(bits=4)


@pytest.mark.parametrize("given", [7, 0.5, None, True, [7], [None], {"a"}])
def test_what_is_no_scheme_is_refused(given):
    with pytest.raises(TypeError, match=r"schemes? must be .*, got .*; write"):
        get_schemes(given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": "low_bit", "bits": True}, "bits of scheme 'low_bit' must be a whole number"),
        ({"name": "low_bit", "bits": 4.0}, "bits of scheme 'low_bit' must be a whole number"),
        ({"name": "low_bit", "bits": "4"}, "bits of scheme 'low_bit' must be a whole number"),
        ({"name": "flightnn", "mean_terms": [1]}, "mean_terms of scheme 'flightnn' must be a num"),
        ({"name": "int8", "reduced_range": 1}, "reduced_range of scheme 'int8' must be true or"),
        ({"name": ["int8"]}, "scheme must be one of"),
        ({"name": {}, "x": 1}, "scheme must be one of"),
    ],
)
def test_settings_of_another_type_are_refused(given, said):
    with pytest.raises(ValueError, match=said):
        get_scheme(given)


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        (LowBit, {"bits": 4.5}, "bits of scheme 'low_bit' must be a whole number, got 4.5; 4 is"),
        (LowBit, {"bits": "4"}, "bits of scheme 'low_bit' must be a whole number, got '4'; 4 is"),
        (
            PowerOfTwo,
            {"terms": True},
            "terms of scheme 'power_of_two' must be a whole .*, got True",
        ),
        (
            FLightNN,
            {"mean_terms": "1"},
            "mean_terms of scheme 'flightnn' must be a number, got '1'",
        ),
        (
            FLightNN,
            {"mean_terms": math.nan},
            r"mean_terms must be in \(0, 2\], got nan; 1.3 is usu",
        ),
        (Int8, {"reduced_range": "no"}, "reduced_range of scheme 'int8' must be true or false"),
    ],
)
def test_so_are_those_of_a_class(kind, settings, said):
    with pytest.raises(ValueError, match=said):
        kind(**settings)
