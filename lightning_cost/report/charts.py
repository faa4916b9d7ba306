"""Curves over epochs and scatter plots as inline SVG: coordinates in, markup out.

Text in a scaled drawing is scaled too, so every chart is drawn at two widths and the style sheet
shows the one that fits the page.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias

from lightning_cost.report.markup import Markup, element, join

WIDE, NARROW = 860, 348

Shape: TypeAlias = Literal["circle", "square", "triangle", "cross"]
_OUTLINES: dict[Shape, str] = {
    "square": "M{0:g},{1:g} m-4.5,-4.5 h9 v9 h-9 z",
    "triangle": "M{0:g},{1:g} m0,-5.5 l5.5,10 h-11 z",
    "cross": "M{0:g},{1:g} m-4,-4 l8,8 m0,-8 l-8,8",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """One line of a chart.

    Args:
        name: Its label.
        points: (x, y) in order of x.
        style: CSS class, which gives the colour.
        is_dashed: Whether the values are estimates.
        limit: A level that the curve should come under.
    """

    name: str
    points: Sequence[tuple[float, float]]
    style: str
    is_dashed: bool = False
    limit: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Band:
    """A stretch of the x axis that is shaded and named."""

    name: str
    start: float
    end: float
    style: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Dot:
    """One point of a scatter plot."""

    label: str
    x: float
    y: float
    style: str
    tip: str
    shape: Shape = "circle"


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """One axis: the values it must show, how it writes them, and what it is.

    Args:
        low: Where it begins.
        high: Where it ends.
        write: Gives the text of a value.
        title: What it is.
        is_whole: Whether only whole numbers are written.
    """

    low: float
    high: float
    write: Callable[[float], str]
    title: str
    is_whole: bool = False

    def ticks(self, count: int) -> list[float]:
        """About ``count`` round numbers within the axis.

        >>> Axis(low=0, high=1, write=str, title="").ticks(5)
        [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
        """
        span = (self.high - self.low) or 1.0
        raw = span / max(1, count)
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
        if self.is_whole:
            step = math.ceil(step)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(i * step, 12) for i in range(first, last + 1)]


class Frame:
    """The plotting area of one drawing and its map from values to coordinates.

    Args:
        width: Of the whole drawing.
        height: Of the whole drawing.
        x: The axis across.
        y: The axis upwards.
        right: What is left free beside the plotting area.
    """

    def __init__(self, width: int, height: int, x: Axis, y: Axis, right: int) -> None:
        self.width, self.height, self.x, self.y = width, height, x, y
        self.left, self.right, self.top, self.bottom = 52, width - right, 30, height - 38

    def at_x(self, value: float) -> float:
        """The coordinate of a value of the x axis."""
        span = (self.x.high - self.x.low) or 1.0
        return round(self.left + (value - self.x.low) / span * (self.right - self.left), 1)

    def at_y(self, value: float) -> float:
        """The coordinate of a value of the y axis."""
        span = (self.y.high - self.y.low) or 1.0
        return round(self.bottom - (value - self.y.low) / span * (self.bottom - self.top), 1)

    def axes(self) -> Markup:
        """Grid lines, ticks and the title of the x axis."""
        parts: list[Markup] = []
        for value in self.y.ticks(5):
            y = self.at_y(value)
            parts.append(element("line", x1=self.left, x2=self.right, y1=y, y2=y, class_="grid"))
            text = self.y.write(value)
            parts.append(element("text", text, x=self.left - 8, y=y + 4, class_="tick end"))
        for value in self.x.ticks(max(3, (self.right - self.left) // 80)):
            x = self.at_x(value)
            bottom = self.bottom
            parts.append(element("line", x1=x, x2=x, y1=bottom, y2=bottom + 5, class_="axis"))
            text = self.x.write(value)
            parts.append(element("text", text, x=x, y=bottom + 18, class_="tick mid"))
        line = {"x1": self.left, "x2": self.right, "y1": self.bottom, "y2": self.bottom}
        parts.append(element("line", **line, class_="axis"))
        title = element("text", self.x.title, x=self.right, y=self.height - 3, class_="tick end")
        return join([*parts, title])

    def drawing(self, description: str, style: str, *parts: str) -> Markup:
        """The whole drawing, which ``description`` stands for where it cannot be seen."""
        return element(
            "svg",
            *parts,
            viewBox=f"0 0 {self.width} {self.height}",
            role="img",
            aria_label=description,
            class_=f"chart {style}",
        )


def curve_chart(
    curves: Sequence[Curve],
    *,
    bands: Sequence[Band],
    x: Axis,
    y: Axis,
    height: int,
    dots: Sequence[Dot] = (),
) -> Markup:
    """Curves over shaded phases and dots; the wide drawing names each curve at its end."""
    drawings = []
    for width, style, right in ((WIDE, "wide", 150), (NARROW, "narrow", 10)):
        frame = Frame(width, height, x, y, right)
        parts = [_bands(frame, bands), frame.axes()]
        parts += [_small_dot(frame, dot) for dot in dots]
        parts += [_curve(frame, curve) for curve in curves]
        if style == "wide":
            parts.append(_end_labels(frame, curves))
        names = ", ".join(curve.name for curve in curves)
        drawings.append(frame.drawing(f"{y.title} over {x.title}: {names}", style, *parts))
    return join(drawings)


def scatter_chart(
    dots: Sequence[Dot],
    *,
    front: Sequence[tuple[float, float]],
    x: Axis,
    y: Axis,
    lines: Sequence[Curve] = (),
) -> Markup:
    """Points with their labels, over ``lines`` and a staircase through ``front``.

    Args:
        dots: The points.
        front: Corners of the staircase, ordered by x.
        x: The axis across.
        y: The axis upwards.
        lines: Drawn without a mark at their end.
    """
    drawings = []
    for width, style in ((440, "wide"), (NARROW, "narrow")):
        frame = Frame(width, 300, x, y, 24)
        corners = [(frame.at_x(a), frame.at_y(b)) for a, b in front]
        stairs = [p for a, b in pairwise(corners) for p in (a, (b[0], a[1]))] + corners[-1:]
        line = element("polyline", points=_points(stairs), class_="front") if front else None
        marks = [_dot(frame, dot) for dot in dots]
        drawing = join([frame.axes(), *(_line(frame, each) for each in lines), line, *marks])
        drawings.append(frame.drawing(f"{y.title} against {x.title}", style, drawing))
    return join(drawings)


def mark(
    shape: Shape, style: str, *, at: tuple[float, float] = (0, 0), tip: str | None = None
) -> Markup:
    """The shape of one point, about ten units wide.

    Args:
        shape: Its outline.
        style: CSS class, which gives the colour.
        at: Its centre.
        tip: What it stands for.
    """
    title = element("title", tip) if tip is not None else None
    if shape == "circle":
        return element("circle", title, cx=at[0], cy=at[1], r=5, class_=style)
    return element("path", title, d=_OUTLINES[shape].format(*at), class_=style)


def _dot(frame: Frame, dot: Dot) -> Markup:
    cx, cy = frame.at_x(dot.x), frame.at_y(dot.y)
    drawn = mark(dot.shape, dot.style, at=(cx, cy), tip=dot.tip)
    if not dot.label:
        return drawn
    return join([drawn, element("text", dot.label, x=cx + 8, y=cy - 7, class_="dot-label")])


def _small_dot(frame: Frame, dot: Dot) -> Markup:
    at = {"cx": frame.at_x(dot.x), "cy": frame.at_y(dot.y)}
    return element("circle", element("title", dot.tip), **at, r=3, class_=dot.style)


def _bands(frame: Frame, bands: Sequence[Band]) -> Markup:
    parts = []
    for band in bands:
        x, width = frame.at_x(band.start), frame.at_x(band.end) - frame.at_x(band.start)
        tip = element("title", f"{band.name}: epochs {band.start:g} to {band.end:g}")
        height = frame.bottom - frame.top
        area = {"x": x, "width": round(width, 1)}
        parts.append(
            element("rect", tip, **area, y=frame.top, height=height, class_=f"band {band.style}")
        )
        parts.append(element("rect", **area, y=frame.top - 6, height=5, class_=band.style))
        if width > 6.6 * len(band.name):
            at = {"x": round(x + width / 2, 1), "y": frame.top - 12}
            parts.append(element("text", band.name, **at, class_="tick mid"))
    return join(parts)


def _curve(frame: Frame, curve: Curve) -> Markup:
    parts = []
    if curve.limit is not None:
        y = frame.at_y(curve.limit)
        ends = {"x1": frame.left, "x2": frame.right, "y1": y, "y2": y}
        parts.append(element("line", **ends, class_=f"limit {curve.style}"))
    parts.append(_line(frame, curve))
    if curve.points:
        x, y = (frame.at_x(curve.points[-1][0]), frame.at_y(curve.points[-1][1]))
        parts.append(element("circle", cx=x, cy=y, r=3.5, class_=f"end-dot {curve.style}"))
    return join(parts)


def _line(frame: Frame, curve: Curve) -> Markup:
    corners = [(frame.at_x(a), frame.at_y(b)) for a, b in curve.points]
    return element(
        "polyline",
        element("title", curve.name),
        points=_points(corners),
        class_=f"curve {curve.style}{' dashed' if curve.is_dashed else ''}",
    )


def _end_labels(frame: Frame, curves: Sequence[Curve]) -> Markup:
    ends = [(frame.at_y(curve.points[-1][1]) + 4, curve) for curve in curves if curve.points]
    ends.sort(key=lambda end: end[0])
    parts, lowest = [], -math.inf
    heights = [y for y, _ in ends]
    for index, y in enumerate(heights):
        heights[index] = lowest = max(y, lowest + 15)
    overflow = max(0.0, lowest - frame.height + 8)
    for y, (_, curve) in zip(heights, ends, strict=True):
        at = {"x": frame.right + 10, "y": round(y - overflow, 1)}
        parts.append(element("text", curve.name, **at, class_=f"end-label {curve.style}"))
    return join(parts)


def _points(corners: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in corners)
