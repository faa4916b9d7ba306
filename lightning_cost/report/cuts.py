"""Where the network was cut: every layer's width, every group's channels, every step."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lightning_cost.report.charts import Axis
from lightning_cost.report.columns import Column, column_chart
from lightning_cost.report.markup import Markup, element, path_name, section, table
from lightning_cost.report.quantities import percent
from lightning_cost.report.strips import Strip, strip_list

Report = Mapping[str, Any]

NUM_SHOWN = 60
"""Rows that are shown before one asks for the rest."""


def layers(report: Report) -> Markup:
    """The width of every layer before and after, in the order of the network."""
    widths, bits = report["final"]["widths"], report["final"]["bits"]
    names = list(dict.fromkeys([*widths, *bits]))
    if not names:
        return section("Layers", element("p", "No layer changed.", class_="empty"))
    left_alone = report["pruning"]["left_alone"] if report["pruning"] else {}
    widest = max((before for before, _ in widths.values()), default=1) or 1
    rows = [_layer(name, widths.get(name), bits.get(name), widest, left_alone) for name in names]
    hint = "Channels before → after in the order of the network; bits of the weights."
    key = _legend(
        [("was", "dense"), ("stays", "kept"), *([("alone", "left alone")] if left_alone else [])]
    )
    return section(
        "Layers",
        *([key, *_overview(widths, left_alone)] if widths else []),
        *_folded(rows, "layers", "layers"),
        _reasons(left_alone),
        hint=hint,
    )


def ranking(report: Report) -> Markup | None:
    """The channels of each group in the order of all channels, and up to where each step cut."""
    pruning = report["pruning"]
    if pruning is None or not pruning["groups"]:
        return None
    strips = [
        Strip(name=group["name"], ranks=group["ranks"], num_kept=group["kept"])
        for group in pruning["groups"]
    ]
    total = sum(len(strip.ranks) for strip in strips)
    lines = [total - sum(step["kept"]) for step in pruning["steps"] if step["is_made"]]
    hint = (
        "Every channel at its place in the learned order of all channels: the left end goes first. "
        "A numbered line marks as many channels as that step has removed. A group is cut unlike "
        "the line where its last channels are protected, where its width is rounded, or where "
        "channels came back to fill the budget."
    )
    key = _legend([("stays", "kept"), ("went", "removed")])
    rows = strip_list(strips, lines)
    head, body = rows[0], rows[1:]
    return section("Ranking", key, *_folded(body, "ranks", "groups", head), hint=hint)


def steps(report: Report) -> Markup | None:
    """What each pruning step left of all channels."""
    pruning = report["pruning"]
    if pruning is None or not pruning["groups"] or not pruning["steps"]:
        return None
    totals = {group["name"]: len(group["ranks"]) for group in pruning["groups"]}
    rows = [_step(number, step, totals) for number, step in enumerate(pruning["steps"], start=1)]
    header = ["step", "after epochs", "channels", "keep ratio", "least of a group", ""]
    remarks = [element("p", remark, class_="aside") for remark in pruning["remarks"]]
    hint = "Channels of all groups that are left after each step."
    return section("Pruning steps", table(header, rows, "steps"), *remarks, hint=hint)


def _step(number: int, step: Mapping[str, Any], totals: Mapping[str, int]) -> list[str]:
    left, total = sum(step["kept"]), sum(totals.values())
    ratios = {name: kept / totals[name] for name, kept in zip(totals, step["kept"], strict=True)}
    least = min(ratios, key=lambda name: ratios[name])
    fill = element("i", class_="final", style=f"width:{100 * left / total:.2f}%")
    track = element("span", fill, class_="track")
    return [
        str(number),
        f"{step['epoch']:.4g}",
        f"{left:,} of {total:,}",
        element("span", track, percent(left / total), class_="share"),
        f"{percent(ratios[least])} of {least}",
        "made" if step["is_made"] else "not made",
    ]


def _overview(
    widths: Mapping[str, Sequence[int]], left_alone: Mapping[str, str]
) -> tuple[Markup, Markup]:
    """Channels and keep ratio of every layer, at a glance."""
    counts, ratios = [], []
    for name, (before, after) in widths.items():
        style = "alone" if name in left_alone else "stays"
        ratio = after / before if before else 1.0
        tip = f"{name}: {before} → {after} ({percent(ratio)})"
        counts.append(Column(outer=before, inner=after, style=style, tip=tip))
        ratios.append(Column(outer=1.0, inner=ratio, style=style, tip=tip))
    widest = max(1.0, *(column.outer for column in counts))
    channels = Axis(low=0, high=1.04 * widest, write=lambda value: f"{value:g}", title="channels")
    shares = Axis(low=0, high=1.04, write=lambda value: f"{100 * value:.0f} %", title="keep ratio")
    x = "layers, in the order of the network"
    return (
        column_chart(counts, x=x, y=channels, height=230),
        column_chart(ratios, x=x, y=shares, height=150),
    )


def _layer(
    name: str,
    width: Sequence[int] | None,
    bits: float | None,
    widest: int,
    left_alone: Mapping[str, str],
) -> Markup:
    track, text, ratio = None, "width not recorded", ""
    if width is not None:
        before, after = width
        kind = "final alone" if name in left_alone else "final"
        track = element(
            "span",
            element("i", class_="dense", style=f"width:{100 * before / widest:.2f}%"),
            element("i", class_=kind, style=f"width:{100 * after / widest:.2f}%"),
            class_="track",
        )
        text, ratio = f"{before} → {after}", f"{100 * after / before:.0f} %" if before else ""
    depth = f"{bits:g} bit" if bits is not None else ""
    cells = [("b", path_name(name)), ("span", track), ("em", text), ("em", ratio), ("small", depth)]
    return element("li", *(element(tag, cell) for tag, cell in cells))


def _reasons(left_alone: Mapping[str, str]) -> Markup | None:
    """Which layers keep all their channels, by the reason."""
    if not left_alone:
        return None
    by_reason: dict[str, list[str]] = {}
    for name, reason in left_alone.items():
        by_reason.setdefault(reason, []).append(name)
    rows = [[reason, ", ".join(names)] for reason, names in by_reason.items()]
    return table(["left alone because", "layers"], rows, "reasons")


def _folded(
    rows: Sequence[Markup], class_: str, what: str, head: Markup | None = None
) -> list[Markup]:
    """The first rows as a list, the rest of them behind a fold."""
    shown, rest = rows[:NUM_SHOWN], rows[NUM_SHOWN:]
    parts = [element("ol", head, *shown, class_=class_)]
    if rest:
        summary = element("summary", f"{len(rest)} more {what}")
        parts.append(element("details", summary, element("ol", head, *rest, class_=class_)))
    return parts


def _legend(entries: Iterable[tuple[str, str]]) -> Markup:
    areas = [element("span", element("i", class_=f"area {style}"), name) for style, name in entries]
    return element("p", *areas, class_="legend")
