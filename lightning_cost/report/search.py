"""The course of the search for the ranking: what candidates were judged at, the best so far."""

from collections.abc import Mapping, Sequence
from typing import Any

from lightning_cost.report.charts import Axis, Curve, Dot, curve_chart
from lightning_cost.report.markup import Markup, element, pairs, section
from lightning_cost.report.quantities import UNKNOWN, figures, percent, quantity

_SHOWN = 0.9
"""Share of the candidates that the chart makes room for; the worst would flatten it."""


def search(report: Mapping[str, Any]) -> Markup | None:
    """Best loss so far against candidates judged, the plain rankings marked."""
    pruning = report["pruning"]
    if pruning is None:
        return None
    found = pruning["search"]
    if found is None or not found["trials"]:
        text = "The ranking was given: nothing was searched."
        return section("Search", element("p", text, class_="empty"))
    trials = found["trials"]
    hint = "Loss on held-out data right after the cut, before recovery; lower is better."
    chart = _chart(trials)
    if chart is None:
        chart = element("p", "No candidate had a loss that is a number.", class_="empty")
    return section("Search", _legend(), chart, pairs(_facts(found)), hint=hint)


def _chart(trials: Sequence[Mapping[str, Any]]) -> Markup | None:
    best = [(n, trial["best"]) for n, trial in enumerate(trials, 1) if trial["best"] is not None]
    losses = sorted(trial["loss"] for trial in trials if trial["loss"] is not None)
    if not best or not losses:
        return None
    low = min(y for _, y in best)
    high = max(losses[int(_SHOWN * (len(losses) - 1))], *(y for _, y in best))
    pad = 0.08 * ((high - low) or abs(high) or 1.0)
    dots = [
        Dot(
            label="",
            x=number,
            y=min(trial["loss"], high + 0.6 * pad),
            style=_style(trial),
            tip=f"candidate {number}, {_words(trial)}: {figures(trial['loss'])}",
        )
        for number, trial in enumerate(trials, 1)
        if trial["loss"] is not None
    ]
    # plain rankings on top, where they are seen
    dots.sort(key=lambda dot: dot.style == "plain")
    steps = [(1.0 * n, y) for n, y in best for n in (n, n + 1)][:-1]
    curve = Curve(name=f"best {figures(best[-1][1])}", points=steps, style="c0")
    return curve_chart(
        [curve],
        bands=[],
        dots=dots,
        x=Axis(
            low=1, high=len(trials), write="{:g}".format, title="candidates judged", is_whole=True
        ),
        y=Axis(low=max(0.0, low - pad), high=high + pad, write=figures, title="loss"),
        height=240,
    )


def _style(trial: Mapping[str, Any]) -> str:
    if trial["is_plain"]:
        return "plain"
    return "rejected" if trial["is_rejected"] else "judged"


def _words(trial: Mapping[str, Any]) -> str:
    kind = "plain ranking" if trial["is_plain"] else "from"
    return f"{kind} {trial['base']}{', rejected at a glance' if trial['is_rejected'] else ''}"


def _facts(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    trials = found["trials"]
    plain = [t for t in trials if t["is_plain"] and t["loss"] is not None]
    first = min(plain, key=lambda trial: trial["loss"], default=None)
    best = trials[-1]["best"]
    takes = trials[-1]["flops"]
    facts = [
        ("candidates", f"{len(trials):,}"),
        ("rejected at a glance", f"{sum(t['is_rejected'] for t in trials):,}"),
        ("best loss", UNKNOWN if best is None else figures(best)),
        ("best plain ranking", _plain_words(first, best)),
        ("search compute", quantity(takes, "FLOP")),
    ]
    if found["is_reused"]:
        rest = f"; {quantity(found['flops'], 'FLOP')} of it here" if found["flops"] else ""
        facts.append(("judged by", f"another run of the sweep{rest}"))
    return facts


def _plain_words(plain: Mapping[str, Any] | None, best: float | None) -> str:
    if plain is None or best is None:
        return UNKNOWN
    gain = (
        f" (the search is {percent(1 - best / plain['loss'])} below)" if plain["loss"] > 0 else ""
    )
    return f"{plain['base']}, {figures(plain['loss'])}{gain}"


def _legend() -> Markup:
    dots = [
        element("span", element("i", class_=f"dot {style}"), name)
        for style, name in (("plain", "plain ranking"), ("judged", "candidate"))
    ]
    rejected = element("span", element("i", class_="dot rejected"), "rejected at a glance")
    line = element("span", element("i", class_="line c0"), "best so far")
    return element("p", line, *dots, rejected, class_="legend")
