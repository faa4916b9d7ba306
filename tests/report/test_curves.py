import re

from lightning_cost.cost.measurement import Measurement, Method, cost_to_dict
from lightning_cost.cost.resource import Resource
from lightning_cost.report.curves import cost_curve


def latency_curve(markup):
    """Heights of the wide drawing's latency curve and of its limit."""
    wide = re.search('<svg [^>]*class="chart wide".*?</svg>', markup).group()
    (points,) = re.findall(r'<polyline points="([^"]*)" class="curve c1">', wide)
    (limit,) = re.findall(r'<line [^>]*y1="([\d.]+)"[^>]* class="limit c1"', wide)
    return [float(point.split(",")[1]) for point in points.split()], float(limit)


def at_share(markup, share):
    """The height of a share of the dense cost."""
    wide = re.search('<svg [^>]*class="chart wide".*?</svg>', markup).group()
    ticks = re.findall(r'y="([\d.]+)" class="tick end">(\d+) %<', wide)
    heights = {int(text): float(y) - 4 for y, text in ticks}
    return heights[0] + share * (heights[100] - heights[0])


def test_curves_start_at_the_dense_cost_as_the_fit_measured_it(make_report):
    clean = make_report()
    first = clean["history"][0]["cost"]["latency_ms"]["value"]
    dense = {Resource.latency_ms: _latency(first)}
    base = {Resource.latency_ms: _latency(3.2)}
    report = make_report(
        dense_in_fit=dense, base=base, limits={Resource.latency_ms: 1.6}, history=clean["history"]
    )
    heights, limit = latency_curve(cost_curve(report))
    drawn = cost_curve(report)
    assert abs(heights[0] - at_share(drawn, 1.0)) < 0.11
    # the limit is half of the dense latency that it was judged beside
    assert abs(limit - at_share(drawn, 0.5)) < 0.11
    assert report["budget"]["latency_ms"]["dense"] == 3.2
    assert report["phases"][0]["cost_before"] == cost_to_dict(dense)


def _latency(value):
    return Measurement(value=value, unit="ms", method=Method.measured, runtime="openvino")
