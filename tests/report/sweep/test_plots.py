import re

import pytest

from lightning_cost.report.sweep.plots import key, kinds_of, quality_plot
from lightning_cost.report.sweep.rows import collect


@pytest.fixture
def plot(study_dir, make_study):
    return quality_plot(collect(study_dir).rows, "latency_ms", "val_acc", "max", make_study())


def test_states_are_told_apart_by_shape_and_colour(plot):
    wide = plot[: plot.index("chart narrow")]
    marks = re.findall(r'<(path|circle)[^>]*class="(infeasible|pruned|on-front|dense-dot)"', wide)
    assert sorted(marks) == [
        ("circle", "dense-dot"),
        ("circle", "on-front"),
        ("path", "infeasible"),
        ("path", "pruned"),
    ]
    assert "trial 1, infeasible: 3.20 ms predicted, latency 4.00× the limit" in wide
    assert "trial 2, pruned: 0.700 ms predicted, 40.00 % when stopped" in wide
    assert kinds_of([plot]) == ["on-front", "infeasible", "pruned", "dense-dot"]


def test_what_lies_outside_is_drawn_at_the_edge(plot):
    wide = plot[: plot.index("chart narrow")]
    found = re.findall(r'<path d="M([0-9.]+),([0-9.]+) [^"]*" class="([a-z]+)"', wide)
    places = {style: (float(x), float(y)) for x, y, style in found}
    foot, right = 300 - 38, 440 - 24
    assert places["infeasible"] == (right, foot)
    assert places["pruned"][1] == foot
    assert places["pruned"][0] < right
    assert "1 of the infeasible trials cost more than is drawn" in plot


def test_a_resource_without_a_prediction_shows_the_runs_alone(study_dir, make_study):
    rows = collect(study_dir).rows
    plot = quality_plot(rows, "macs", "val_acc", "max", make_study())
    assert "trial" not in plot
    assert plot == quality_plot(rows, "macs", "val_acc", "max")


def test_nothing_is_drawn_of_what_is_not_known(study_dir):
    assert quality_plot(collect(study_dir).rows, "macs", "other", "max") is None


def test_the_key_has_one_mark_a_kind():
    found = key(["pruned", "infeasible", "pruned"])
    assert found.count("<svg") == 2
