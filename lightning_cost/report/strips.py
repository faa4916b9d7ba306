"""One strip per channel group: its channels in the order of all channels, kept and removed."""

from collections.abc import Sequence
from dataclasses import dataclass

from lightning_cost.report.markup import Markup, element, path_name
from lightning_cost.report.quantities import percent

NUM_CELLS = 240
"""Channels of large networks share the cells of a strip, so that no strip grows with them."""
_APART = 0.03


@dataclass(frozen=True, kw_only=True, slots=True)
class Strip:
    """The channels of one group.

    Args:
        name: Of the group.
        ranks: Places of its channels in the order of all channels, ascending.
        num_kept: How many of them stay: the last ones.
    """

    name: str
    ranks: Sequence[int]
    num_kept: int


def strip_list(strips: Sequence[Strip], lines: Sequence[int]) -> list[Markup]:
    """A head with the numbers of ``lines``, and one row per strip, as list items.

    Args:
        strips: The groups.
        lines: Places in the order of all channels.
    """
    total = sum(len(strip.ranks) for strip in strips)
    return [_head(lines, total), *(_row(strip, lines, total) for strip in strips)]


def _head(lines: Sequence[int], total: int) -> Markup:
    """The number of each line; those of lines that stand close together are one label."""
    labels: list[tuple[float, int, int]] = []
    for number, line in enumerate(lines, start=1):
        at = line / total
        if labels and at - labels[-1][0] < _APART:
            labels[-1] = (at, labels[-1][1], number)
        else:
            labels.append((at, number, number))
    marks = [
        element("i", _span(first, last), style=f"left:{100 * at:.2f}%")
        for at, first, last in labels
    ]
    cells = (element("b", "step"), element("span", *marks, class_="numbers"))
    return element("li", *cells, element("em", ""), element("em", ""), class_="head")


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}–{last}"


def _row(strip: Strip, lines: Sequence[int], total: int) -> Markup:
    count = len(strip.ranks)
    num_removed = count - strip.num_kept
    cells = min(total, NUM_CELLS)
    text = f"{strip.name}: {strip.num_kept} of {count} channels kept"
    drawing = element(
        "svg",
        element("title", text),
        element("path", d=_path(strip.ranks[:num_removed], cells, total), class_="went"),
        element("path", d=_path(strip.ranks[num_removed:], cells, total), class_="stays"),
        *(
            element("line", x1=x, x2=x, y1=0, y2=10, class_="cut")
            for x in dict.fromkeys(round(line / total * cells, 2) for line in lines)
        ),
        viewBox=f"0 0 {cells} 10",
        preserveAspectRatio="none",
        role="img",
        aria_label=text,
    )
    return element(
        "li",
        element("b", path_name(strip.name)),
        element("span", drawing),
        element("em", f"{strip.num_kept} of {count}"),
        element("em", percent(strip.num_kept / count)),
    )


def _path(ranks: Sequence[int], cells: int, total: int) -> str:
    """Rectangles over the cells of ``ranks``, those that touch drawn as one."""
    runs: list[list[int]] = []
    for cell in dict.fromkeys(rank * cells // total for rank in ranks):
        if runs and cell == runs[-1][1]:
            runs[-1][1] = cell + 1
        else:
            runs.append([cell, cell + 1])
    return "".join(f"M{start} 0H{end}V10H{start}z" for start, end in runs)
