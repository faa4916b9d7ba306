"""One column per layer: what it had as an outline, what it kept filled."""

from collections.abc import Sequence
from dataclasses import dataclass

from lightning_cost.report.charts import NARROW, WIDE, Axis, Frame
from lightning_cost.report.markup import Markup, element, join


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One column of a chart.

    Args:
        outer: Height of the outline.
        inner: Height of the filled part.
        style: CSS class of the filled part.
        tip: What it stands for.
    """

    outer: float
    inner: float
    style: str
    tip: str


def column_chart(columns: Sequence[Column], *, x: str, y: Axis, height: int) -> Markup:
    """Columns side by side, numbered from 1.

    Args:
        columns: In the order in which they are drawn.
        x: What the columns are.
        y: Their heights.
        height: Of the drawing.
    """
    end = len(columns) + 0.5
    across = Axis(low=0.5, high=end, write=lambda value: f"{value:g}", title=x, is_whole=True)
    drawings = []
    for width, style in ((WIDE, "wide"), (NARROW, "narrow")):
        frame = Frame(width, height, across, y, right=10)
        parts = [frame.axes(), *(_column(frame, at, each) for at, each in enumerate(columns, 1))]
        text = f"{y.title} of {len(columns)} {x}"
        drawings.append(frame.drawing(text, style, *parts))
    return join(drawings)


def _column(frame: Frame, place: int, column: Column) -> Markup:
    left, right = frame.at_x(place - 0.5), frame.at_x(place + 0.5)
    gap = 0.18 * (right - left)
    area = {"x": round(left + gap, 2), "width": round(right - left - 2 * gap, 2)}
    parts = []
    for value, style in ((column.outer, "was"), (column.inner, column.style)):
        top = frame.at_y(value)
        height = round(frame.bottom - top, 1)
        tip = element("title", column.tip) if style != "was" else None
        parts.append(element("rect", tip, **area, y=top, height=height, class_=style))
    return join(parts)
