"""The parts of the page: each takes the report and gives one section, or ``None`` without data."""

import json
from collections.abc import Mapping
from typing import Any

from lightning_cost.report.limits import broken_parity
from lightning_cost.report.markup import Markup, element, join, pairs, section, table
from lightning_cost.report.quantities import (
    UNKNOWN,
    conditions,
    cost_change,
    duration,
    label,
    metric_change,
    metric_value,
    origin,
    percent,
    quantity,
)

Report = Mapping[str, Any]


def how(method: str | None, words: str | None = None) -> Markup:
    """The mark that stands beside every number: exact, measured or estimated."""
    kind = method or "missing"
    return element("span", words or kind, class_=f"how {kind}")


def marked(measurement: Mapping[str, Any] | None) -> Markup:
    """A value with its unit and its mark."""
    if measurement is None or measurement["value"] is None:
        return join([element("span", UNKNOWN, class_="missing"), " ", how(None)])
    text = quantity(measurement["value"], measurement["unit"])
    mark = how(measurement["method"], origin(measurement))
    return join([element("span", text, class_="figure"), " ", mark])


def header(report: Report) -> Markup:
    """Title, verdict, and the facts that identify the run."""
    limits = [*report["budget"].values(), *report["training_budget"].values()]
    num_broken = sum(not entry["kept"] for entry in limits)
    verdict = "No limit was set" if not limits else "Every limit kept"
    if num_broken:
        verdict = f"{num_broken} of {len(limits)} limit{'s' * (len(limits) > 1)} not kept"
    differs = broken_parity(report) is not None
    if differs:
        verdict += "; the deployed file does not compute what was trained"
    tone = "broken" if num_broken or differs else "kept"
    note = report["note"]
    facts = [
        ("device", report["device"]["name"]),
        ("data", report["data"]["name"] or "not named"),
        ("seed", str(report["seed"]) if report["seed"] is not None else "not set"),
        ("created", report["created"]),
        ("ended because", report["stop_reason"] or "no reason recorded"),
    ]
    left = element(
        "div",
        element("p", "lightning-cost run report", class_="kind"),
        element("h1", report["title"] or "untitled run"),
        element("p", verdict, class_=f"verdict {tone}"),
        element("p", note, class_="note") if note else None,
    )
    return element("header", left, pairs(facts))


def budget(report: Report) -> Markup:
    """One bar per limit: the dense network as an outline, the final one filled, the limit."""
    bars = []
    for name, entry in report["budget"].items():
        bars.append(_bar(label(name), entry, _dense(entry, report["dense"]["cost"].get(name))))
    for name, entry in report["training_budget"].items():
        bars.append(_bar(f"{label(name)} of the run", entry, None))
    empty = element("p", "No limit was set: nothing to keep.", class_="empty")
    hint = "Outline: dense network. Filled: as deployed, hatched where estimated. Red: the limit."
    return section("Budget", *(bars or [empty]), hint=hint if bars else None)


def _dense(entry: Mapping[str, Any], alone: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """What a limit's percentage is of: the dense network under the conditions of its value.

    Args:
        entry: Of the limit.
        alone: The dense network on the fastest that it has, where the entry does not know better.
    """
    if entry["dense"] is None or (alone is not None and alone["value"] == entry["dense"]):
        return alone
    return {"value": entry["dense"], "method": entry["method"] or "not known how"}


def _bar(name: str, entry: Mapping[str, Any], dense: Mapping[str, Any] | None) -> Markup:
    unit, value = entry["unit"], entry["value"]
    dense_value = dense["value"] if dense else None
    end = 1.02 * max(entry["limit"], value or 0.0, dense_value or 0.0)

    def mark(style: str, at: float | None, attribute: str) -> Markup | None:
        if at is None:
            return None
        return element("i", class_=style, style=f"{attribute}:{100 * at / end:.2f}%")

    method = entry["method"] or "missing"
    track = element(
        "div",
        mark("dense", dense_value, "width"),
        mark(f"final {method}{'' if entry['kept'] else ' over'}", value, "width"),
        mark("limit", entry["limit"], "left"),
        class_="track",
    )
    room = entry["headroom"]
    state = entry["reason"] or f"{percent(abs(room))} {'to spare' if room >= 0 else 'over'}"
    scale = [f"limit {quantity(entry['limit'], unit)}"]
    scale += [f"dense {quantity(dense_value, unit)} ({dense['method']})"] if dense else []
    return element(
        "div",
        element(
            "div",
            element("h3", name),
            element("p", marked(entry), class_="value"),
            element("p", state, class_="state kept" if entry["kept"] else "state broken"),
        ),
        element("div", track, element("p", " · ".join(scale), class_="scale")),
        class_="bar",
    )


def before_after(report: Report) -> Markup:
    """Dense against final, resource by resource and metric by metric."""
    dense, final = report["dense"], report["final"]
    rows = []
    for name in dict.fromkeys([*dense["cost"], *final["cost"]]):
        before, after = dense["cost"].get(name), final["cost"].get(name)
        ratio = cost_change(before, after)
        rows.append([label(name), marked(before), marked(after), ratio])
    for name in dict.fromkeys([*dense["metrics"], *final["metrics"]]):
        values = dense["metrics"].get(name), final["metrics"].get(name)
        cells = [metric_cell(name, value) for value in values]
        rows.append([name, *cells, metric_change(name, *values)])
    return section("Before and after", table(["", "dense", "as deployed", "change"], rows))


def metric_cell(name: str, value: float | None) -> Markup:
    """A metric and its mark."""
    return join([metric_value(name, value), " ", how("measured" if value is not None else None)])


def phases(report: Report) -> Markup | None:
    """What each phase took, and what it changed."""
    rows = []
    main = [name for name in ("macs", "latency_ms") if name in report["dense"]["cost"]]
    for phase in report["phases"]:
        first, last = phase["start_epoch"], phase["end_epoch"]
        epochs = str(first) if first == last else f"{first} – {last}"
        seconds = phase["seconds"]
        metric = report["metric"]
        rows.append(
            [
                phase["name"],
                epochs,
                UNKNOWN if seconds is None else duration(seconds),
                *(marked(phase["cost_after"].get(name)) for name in main),
                *([metric_cell(metric, phase["metric"])] if metric else []),
            ]
        )
    if not rows:
        return None
    after = [f"{label(name)} after" for name in main]
    header = ["phase", "epochs", "time", *after, *([report["metric"]] if report["metric"] else [])]
    return section("Phases", table(header, rows))


def provenance(report: Report) -> Markup:
    """Every number of the dense and the final network: how it was had, and under what."""
    stages = (("dense", "dense"), ("final", "as deployed"))
    rows = [
        _origin(label(name), word, report[stage], report[stage]["cost"][name])
        for name in dict.fromkeys([*report["dense"]["cost"], *report["final"]["cost"]])
        for stage, word in stages
        if name in report[stage]["cost"]
    ]
    rows += [
        _origin(f"latency on {runtime}", word, report[stage], value)
        for stage, word in stages
        for runtime, value in report[stage]["latency_by_runtime"].items()
    ]
    left_out = report["not_counted"]
    if left_out:
        text = join(["Not counted: ", ", ".join(left_out), "."])
    else:
        text = Markup("Not counted: nothing was reported as left out.")
    header = ["number", "network", "value", "how", "conditions"]
    hint = "exact: counted. measured: timed on the device. estimated: from a model of the device."
    body = [table(header, rows, "origins"), element("p", text, class_="aside")]
    return section("Where the numbers come from", *body, hint=hint)


def _origin(
    name: str, network: str, stage: Mapping[str, Any], value: Mapping[str, Any]
) -> list[str]:
    where = conditions(value, stage.get("bits", {}).values()) or "the network alone"
    figure = element("span", quantity(value["value"], value["unit"]), class_="figure")
    return [name, network, figure, how(value["method"]), where]


def parity(report: Report) -> Markup:
    """Whether the exported network answers as the PyTorch network does."""
    result = report["parity"]
    if result is None:
        text = "The deployed file was not compared with the PyTorch network."
        return section("Parity", element("p", text, class_="empty"))
    error, span = result["max_abs_error"], result["output_range"]
    verdict = "agrees" if result["passed"] else "does not agree"
    items = [
        ("runtime", result.get("runtime") or UNKNOWN),
        ("verdict", f"{verdict} with the PyTorch network"),
        ("same answer", percent(result["top1_agreement"])),
        ("largest difference", UNKNOWN if error is None else f"{error:.3g}"),
        ("range of the outputs", UNKNOWN if span is None else f"{span:.3g}"),
        ("samples", str(result["num_samples"])),
    ]
    return section("Parity", pairs(items))


def spend(report: Report) -> Markup:
    """What the run itself used."""
    rows = [
        [label(name), marked(entry), entry["assumptions"]]
        for name, entry in report["spend"].items()
    ]
    return section("Spent on the run", table(["", "amount", "assumptions"], rows))


def environment(report: Report) -> Markup:
    """The command, the machine, the versions, the data and the configuration."""
    device, data = report["device"], report["data"]
    facts = [
        ("processor", device["cpu"] or UNKNOWN),
        ("runtime", device["runtime"] or UNKNOWN),
        ("threads", str(device["threads"]) if device["threads"] is not None else UNKNOWN),
        ("data hash", data["hash"] or UNKNOWN),
        *((f"{name} samples", f"{size:,}") for name, size in data["split_sizes"].items()),
        *report["versions"].items(),
        *((name, path or "not written") for name, path in report["artifacts"].items()),
    ]
    return section(
        "Environment",
        element("pre", report["command"]),
        pairs(facts),
        _details("device fingerprint", device["fingerprint"]),
        _details("resolved configuration", report["config"]),
    )


def _details(title: str, data: Mapping[str, Any]) -> Markup:
    text = json.dumps(data, indent=2, ensure_ascii=False)
    return element("details", element("summary", title), element("pre", text))
