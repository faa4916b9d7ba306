import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.report.charts import Axis, Band, Curve, Dot, curve_chart, scatter_chart


def axis(low, high):
    return Axis(low=low, high=high, write=lambda value: f"{value:g}", title="axis")


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(1, 8))
def test_ticks_are_evenly_spread_within_the_axis(low, span, count):
    ticks = axis(low, low + span).ticks(count)
    steps = [b - a for a, b in pairwise(ticks)]
    assert len(ticks) <= count + 2
    assert all(low - 1e-6 * span <= tick <= low + span * (1 + 1e-6) for tick in ticks)
    assert all(step == pytest.approx(steps[0], rel=1e-3) for step in steps)


def test_a_flat_axis_still_draws():
    curve = Curve(name="flat", points=[(0, 1), (1, 1)], style="c0")
    drawing = curve_chart([curve], bands=[], x=axis(0, 1), y=axis(1, 1), height=200)
    assert "nan" not in drawing


def test_curves_end_at_the_corners_of_the_plot():
    curve = Curve(name="all of it", points=[(0, 0), (10, 2)], style="c0")
    bands = [Band(name="first", start=0, end=10, style="p0")]
    drawing = curve_chart([curve], bands=bands, x=axis(0, 10), y=axis(0, 2), height=200)
    wide, narrow = re.findall(r'<polyline points="([^"]*)"', drawing)
    assert (wide, narrow) == ("52,162 710,30", "52,162 338,30")
    assert drawing.count("first: epochs 0 to 10") == 2


def test_labels_at_the_end_do_not_cover_each_other():
    curves = [Curve(name=f"n{i}", points=[(0, 0.5)], style="c0") for i in range(5)]
    drawing = curve_chart(curves, bands=[], x=axis(0, 1), y=axis(0, 1), height=200)
    heights = [float(y) for y in re.findall(r'y="([\d.]+)" class="end-label', drawing)]
    assert all(b - a >= 15 for a, b in pairwise(heights))
    assert max(heights) <= 200


def test_front_is_a_staircase():
    dots = [Dot(label="0", x=0, y=0, style="on-front", tip="a")]
    drawing = scatter_chart(dots, front=[(0, 0), (1, 1)], x=axis(0, 1), y=axis(0, 1))
    points = re.search(r'<polyline points="([^"]*)"', drawing).group(1).split()
    (x0, y0), (x1, y1), (x2, y2) = (point.split(",") for point in points)
    assert (x1, y1) == (x2, y0)
    assert float(y2) < float(y0)
    assert float(x0) < float(x2)


def test_whole_ticks():
    assert Axis(low=0.5, high=20.5, write=str, title="", is_whole=True).ticks(9) == [
        3, 6, 9, 12, 15, 18,
    ]  # fmt: skip
    assert Axis(low=0.5, high=3.5, write=str, title="", is_whole=True).ticks(9) == [1, 2, 3]
