import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.budget.units import Quantity, parse_quantity, units_of


@pytest.mark.parametrize(
    ("name", "written", "value"),
    [
        ("latency_ms", 2, 2.0),
        ("latency_ms", "2", 2.0),
        ("latency_ms", "4 ms", 4.0),
        ("latency_ms", "2 s", 2000.0),
        ("latency_ms", "250us", 0.25),
        ("size_bytes", "1.5 MB", 1.5e6),
        ("size_bytes", "300 kB", 300e3),
        ("size_bytes", "1 MiB", 2**20),
        ("peak_memory_bytes", "512 B", 512.0),
        ("macs", "40 M", 40e6),
        ("macs", "1.2G", 1.2e9),
        ("macs", "1.2 GMACs", 1.2e9),
        ("macs", "40 M MACs", 40e6),
        ("macs", "7 MACs", 7.0),
        ("macs", "1e6", 1e6),
        ("flops", "1e15", 1e15),
        ("flops", "2 PFLOPs", 2e15),
        ("params", "270k", 270e3),
        ("params", "270k params", 270e3),
        ("energy_mj", "5 mJ", 5.0),
        ("energy_mj", "3 J", 3000.0),
        ("usd_per_million", "$", None),
        ("usd_per_million", "0.5 USD", 0.5),
        ("wall_clock_s", "2h", 7200.0),
        ("wall_clock_s", "30 min", 1800.0),
        ("wall_clock_s", "1 d", 86400.0),
        ("energy_kwh", "500 Wh", 0.5),
        ("energy_kwh", "2", 2.0),
        ("usd", "3 $", 3.0),
        ("co2_kg", "200 g", 0.2),
    ],
)
def test_values(name, written, value):
    if value is None:
        with pytest.raises(ValueError, match=re.escape(f"{name} must be a number")):
            parse_quantity(written, name)
    else:
        assert parse_quantity(written, name) == Quantity(pytest.approx(value))


def test_percentages_are_fractions():
    assert parse_quantity("30%", "macs") == Quantity(0.3, is_ratio=True)
    assert parse_quantity("100 %", "latency_ms") == Quantity(1.0, is_ratio=True)


@pytest.mark.parametrize(
    "written", [0, -1, -1.0, "0", "-3 ms", "0%", float("nan"), float("inf"), "nan", "inf", "1e999"]
)
def test_limits_must_be_positive_and_finite(written):
    expected = f"latency_ms must be > 0 and finite, got {written!r}; leave it out for no limit"
    with pytest.raises(ValueError, match=re.escape(expected)):
        parse_quantity(written, "latency_ms")


@pytest.mark.parametrize("unit", ["parsec", "MS", "kB", "ms/image", "sec"])
def test_unknown_units(unit):
    expected = (
        "latency_ms must be in a known unit (ns, us, µs, ms, s, min, h, d, %), got '2 " + unit
    )
    with pytest.raises(ValueError, match=re.escape(expected)):
        parse_quantity(f"2 {unit}", "latency_ms")


@pytest.mark.parametrize("written", ["", "fast", "ms", "%", "1,5 ms", "2 4"])
def test_texts_without_a_number(written):
    with pytest.raises(ValueError, match=r"latency_ms must be .*got .*write for example"):
        parse_quantity(written, "latency_ms")


def test_more_than_the_dense_network():
    with pytest.raises(ValueError, match="macs must be at most 100% of the dense network, got"):
        parse_quantity("150%", "macs")


@pytest.mark.parametrize("written", [True, None, [1], {"value": 1}])
def test_other_types(written):
    with pytest.raises(TypeError, match="macs must be a number or a text with a unit, got"):
        parse_quantity(written, "macs")


def test_unknown_resource():
    with pytest.raises(ValueError, match=r"a limit must be on one of macs, .*got 'watts'; check"):
        parse_quantity(1, "watts")


@given(
    value=st.floats(1e-6, 1e9), name=st.sampled_from(["macs", "latency_ms", "size_bytes", "usd"])
)
def test_every_unit_scales_and_a_plain_number_is_itself(value, name):
    assert parse_quantity(value, name).value == value
    for unit, factor in units_of(name).items():
        text = f"{value!r} {unit}".strip()
        assert parse_quantity(text, name).value == pytest.approx(value * factor)
