import re

from lightning_cost.report.frontier import frontier, resources_of


def test_table_has_every_network_with_the_origin_of_each_number(report):
    drawn = frontier(report)
    points = report["pruning"]["frontier"]
    rows = re.findall("<tr>(.*?)</tr>", drawn)[1:]
    assert len(rows) == len(points)
    for row, point in zip(rows, points, strict=True):
        text = re.sub("<.*?>", "", row)
        assert f"{100 * point['keep_ratio']:.1f} %" in text
        assert f"{100 * point['metrics']['val_acc']:.2f} %" in text
        assert row.count('class="how ') == len(resources_of([points])) + 1
    assert "val_acc before recovery" in drawn


def test_plots_are_of_what_is_limited(report):
    drawn = frontier(report)
    headings = re.findall("<h3>(.*?)</h3>", drawn)
    assert headings == [
        f"val_acc against {name}, before recovery" for name in ("MACs", "latency", "energy")
    ]
    assert drawn.count('class="on-path"') == 3 * 2 * 4  # plots, widths, networks
    assert drawn.count('class="dense-dot"') == drawn.count('class="on-front"') == 3 * 2


def test_dots_lie_where_the_numbers_say(report):
    drawn = re.search('<svg [^>]*class="chart wide".*?</svg>', frontier(report)).group()
    found = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="5" class="on-path"', drawn)
    at = [(float(x), float(y)) for x, y in found]
    points = report["pruning"]["frontier"]
    values = [(p["cost"]["macs"]["value"], p["metrics"]["val_acc"]) for p in points]
    for axis in (0, 1):
        span = values[0][axis] - values[-1][axis]
        scale = (at[0][axis] - at[-1][axis]) / span
        for place, value in zip(at, values, strict=True):
            expected = at[0][axis] + scale * (value[axis] - values[0][axis])
            assert abs(place[axis] - expected) < 0.11


def test_flops_are_left_to_the_macs(pruning):
    point = pruning["frontier"][0]
    macs = point["cost"]["macs"]
    assert resources_of([[point | {"cost": {"params": macs, "flops": macs, "macs": macs}}]]) == [
        "macs",
        "params",
    ]


def test_nothing_was_looked_at(make_report, pruning):
    assert frontier(make_report(pruning=pruning | {"frontier": []})) is None
    assert frontier(make_report(pruning=None)) is None


def test_costs_without_a_metric(make_report, pruning):
    points = [point | {"metrics": {}} for point in pruning["frontier"]]
    drawn = frontier(make_report(pruning=pruning | {"frontier": points}))
    assert "<svg" not in drawn
    assert drawn.count("<tr>") == 1 + len(points)
