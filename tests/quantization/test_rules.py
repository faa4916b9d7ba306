import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from lightning_cost.quantization.rules import QuantizationRules


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"freeze_after": 1.5}, r"freeze_after must be in \[0, 1\], got 1.5"),
        ({"freeze_norms_after": -1}, r"freeze_norms_after must be in \[0, 1\], got -1; 0.9 is"),
        ({"calibration_samples": 0}, r"calibration_samples must be >= 1, got 0"),
        ({"observer": "mean"}, r"observer must be one of 'moving_average', .*, got 'mean'"),
        ({"overrides": {"0": "int1"}}, r"scheme must be one of .*, got 'int1'"),
        (
            {"overrides": {"0": {"name": "low_bit", "bits": 9}}},
            r"bits must be in 2 to 8, got 9; 4 is usual",
        ),
        (
            {"overrides": {"0": {"name": "apot", "bits": 4}}},
            r"a scheme 'apot' must have settings of these names: none, got \['bits'\]",
        ),
        ({"gradual": [0.5, 0.5, 1]}, r"gradual must ascend from above 0 to 1, got \[0.5, 0.5, 1\]"),
        ({"gradual": [0.5, 0.9]}, r"gradual must ascend from above 0 to 1, got \[0.5, 0.9\]; INQ"),
        ({"gradual": 0.5}, r"gradual must be a list of shares, got 0.5; INQ has"),
        ({"gradual": "1"}, r"each share of gradual must be a number, got '1'; 0.5 is usual"),
        ({"gradual": ["a", 1]}, r"each share of gradual must be a number, got 'a'; 0.5 is usual"),
        ({"gradual": [math.nan, 1]}, r"gradual must ascend from above 0 to 1, got \[nan, 1\]"),
        ({"overrides": ["a"]}, r"overrides must be schemes by .*, got \['a'\]; write for example"),
        ({"exclude": "36"}, r"exclude must be a list of names of modules, got '36'; write"),
        ({"exclude": [""]}, r"exclude must be a list of names of modules, got \[''\]; write"),
        ({"exclude": [3]}, r"exclude must be a list of names of modules, got \[3\]; write"),
        ({"calibration_samples": "3"}, r"calibration_samples must be a whole number, got '3'; 512"),
        ({"calibration_samples": 2.5}, r"calibration_samples must be a whole number, got 2.5; 512"),
        ({"calibration_samples": math.nan}, r"calibration_samples must be a whole .*, got nan; 51"),
        ({"freeze_after": "x"}, r"freeze_after must be a number, got 'x'; 0.5 is usual"),
        ({"freeze_norms_after": math.nan}, r"freeze_norms_after must be in \[0, 1\], got nan"),
        ({"learns_scales": 1}, r"learns_scales must be true or false, got 1"),
        ({"gradual": [0.5, 1], "learns_scales": True}, r"gradual must be empty where learns_scale"),
    ],
)
def test_bad_rules(settings, message):
    with pytest.raises(ValueError, match=message):
        QuantizationRules(**settings)


def test_is_a_hydra_schema():
    given = {"overrides": {"*.conv1": "int4", "stem": {"name": "flightnn", "mean_terms": 1}}}
    config = OmegaConf.merge(OmegaConf.structured(QuantizationRules), given)
    assert OmegaConf.to_object(config) == QuantizationRules(**given)


def test_shares_have_equal_parts_of_the_time_before_norms_freeze():
    rules = QuantizationRules(gradual=[0.5, 0.75, 1], freeze_norms_after=0.6)
    found = [rules.share_rounded(tenths / 10) for tenths in range(10)]
    assert found == [0.5, 0.5, 0.75, 0.75, 1, 1, 1, 1, 1, 1]
    assert QuantizationRules(gradual=[0.5, 1], freeze_norms_after=0).share_rounded(0) == 1


@given(
    shares=st.sets(st.floats(0.01, 0.99), max_size=6),
    end=st.floats(0.001, 1),
    distance=st.floats(0, 1),
)
def test_a_share_is_due_at_any_time_and_only_where_wanted(shares, end, distance):
    rules = QuantizationRules(gradual=[*sorted(shares), 1.0], freeze_norms_after=end)
    for done in (0.0, distance * end, math.nextafter(end, 0), end, 1.0):
        assert rules.share_rounded(done) in rules.gradual
    assert QuantizationRules(freeze_norms_after=end).share_rounded(distance) == 0
