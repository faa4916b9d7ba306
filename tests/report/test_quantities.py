import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.cost.resource import Resource
from lightning_cost.report.quantities import (
    LABELS,
    change,
    conditions,
    cost_change,
    duration,
    figures,
    metric_change,
    metric_value,
    quantity,
)


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (999, "B", "999 B"),
        (1_000_000, "B", "1.00 MB"),
        (999_600, "B", "1.00 MB"),
        (1.5e9, "FLOP", "1.50 G FLOPs"),
        (0, "MAC", "0 MACs"),
        (0.8, "ms", "0.800 ms"),
        (12_345.6, "ms", "12,346 ms"),
        (0.0123, "USD per million inferences", "$0.0123 per million inferences"),
        (3661.0, "s", "1 h 1 min"),
        (None, "ms", "not known"),
        (math.nan, "ms", "not known"),
    ],
)
def test_quantity(value, unit, expected):
    assert quantity(value, unit) == expected


def test_every_resource_has_a_label():
    assert {resource.value for resource in Resource} <= set(LABELS)


@given(st.floats(1e-12, 1e15))
def test_figures_keep_three_significant_figures(value):
    assert float(figures(value).replace(",", "")) == pytest.approx(value, rel=5.1e-3)


@given(st.floats(0, 1e7))
def test_durations_never_show_sixty_of_a_unit(seconds):
    assert not re.search(r"(?<![\d.-])60(\.0)? (s|min)", duration(seconds))


def test_change_says_which_way_and_never_divides_by_zero():
    assert change(4.0, 2.0) == "2.00× less"
    assert change(2.0, 2.0) == "unchanged"
    assert change(0.0, 2.0) == "not known"
    assert change(2.0, None) == "not known"


def test_metrics_in_points_or_plain():
    assert metric_change("val_acc", 0.92, 0.91) == "−1.00 points"
    assert metric_change("val_loss", 0.5, 0.25) == "−0.25"
    assert metric_value("val_acc", 91.3) == "91.3"
    assert metric_value("val_acc", None) == "not known"


def test_only_what_differs_in_nothing_but_the_runtime_is_compared(make_report):
    cost = make_report()["dense"]["cost"]["latency_ms"]
    faster = {**cost, "value": cost["value"] / 2, "runtime": "another"}
    assert cost_change(cost, faster) == "2.00× less"
    for name, value in (("batch_size", 8), ("dtype", "bfloat16"), ("method", "estimated")):
        assert cost_change(cost, {**faster, name: value}) == "not comparable"
    assert cost_change(None, cost) == "not known"


def test_conditions_say_how_well_a_median_is_known(make_report):
    text = conditions(make_report()["final"]["cost"]["latency_ms"])
    assert "95 % interval 0.683 to 0.697 ms" in text
    assert "95th percentile 0.828 ms" in text
    assert "312 calls, ended by precision" in text
