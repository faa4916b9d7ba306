import re
from html.parser import HTMLParser
from importlib.resources import files

import pytest

from lightning_cost.cost.measurement import Measurement, Method
from lightning_cost.cost.resource import Resource
from lightning_cost.report.document import Stage
from lightning_cost.report.html import render_report, write_report

STRUCTURE = {"html", "head", "meta", "title", "style", "body", "main", "header", "section", "div"}
PROSE = {"p", "h1", "h2", "h3", "span", "i", "b", "em", "small", "pre", "details", "summary", "wbr"}
LISTS = {"dl", "dt", "dd", "ol", "li", "table", "thead", "tbody", "tr", "th", "td"}
DRAWING = {"svg", "line", "rect", "polyline", "circle", "text", "path"}
ALLOWED = STRUCTURE | PROSE | LISTS | DRAWING


class Reader(HTMLParser):
    """Every element with its attributes, and all text outside the style sheet."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.text = [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "wbr":
            self.text = self.text.removesuffix("\n")
        elif tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data + "\n"


def test_write_report_puts_the_page_beside_the_report(run_dir, report):
    path = write_report(str(run_dir))
    assert path == run_dir / "report.html"
    assert path.read_text(encoding="utf-8") == render_report(report)


def test_write_report_without_a_report(tmp_path):
    with pytest.raises(ValueError, match=r"run_dir must be a run directory with a report\.json"):
        write_report(tmp_path)


def test_page_is_well_formed_and_needs_nothing_else(report):
    page = render_report(report)
    reader = Reader(page)
    assert reader.open == []
    assert {tag for tag, _ in reader.elements} <= ALLOWED
    names = {name for _, attributes in reader.elements for name in attributes}
    assert not names & {"src", "href", "xlink:href", "srcset", "action"}
    assert not any(name.startswith("on") for name in names)
    assert not re.search(r"url\(|@import|https?://", page)
    assert "default-src 'none'" in page.replace("&#x27;", "'")


def test_page_shows_every_number_with_its_origin(report):
    text = Reader(render_report(report)).text
    for shown in (
        "46.6 M MACs",
        "0.690 ms",
        "measured on openvino",
        "measured on onnxruntime",
        "5.17 mJ",
        "estimated",
        "4.26× less",
        "−0.69 points",
        "13.8 % to spare",
        "33 min 51 s",
        "interquartile range 0.0145 ms",
        "FIXTURE",
        "stage3.2.conv2",
        "128 → 56",
        "8 bit",
        "475 g CO2 per kWh",
        "the device has no price",
        "99.8 %",
        "Not counted: ",
        "aten::sort (not in macs)",
        "Every limit kept",
    ):
        assert shown in text, shown  # fmt: skip


def test_no_number_in_the_tables_of_costs_is_without_a_mark(report):
    page = render_report(report)
    figures = re.findall(r'<td data-label="(?:dense|as deployed)"><div>(.*?)</div></td>', page)
    num_rows = len(report["dense"]["cost"]) + len(report["dense"]["metrics"])
    assert len(figures) == 2 * num_rows
    assert all('class="how ' in figure for figure in figures)


def test_what_is_deployed_in_integers_is_not_called_float(report):
    origins = re.findall(r"openvino, 1 thread, batch 1, [^<]*float32", render_report(report))
    # dense on OpenVINO beside the fastest, then the deployed network's latency and energy
    assert {text.removeprefix("openvino, 1 thread, batch 1, ") for text in origins} == {
        "float32",
        "weights of 8 bits, floats in float32",
    }


def test_hostile_names_stay_text(make_report, pruning, hostile):
    def renamed(row):
        return row | {"phase": hostile, "metrics": {hostile: 0.5}}

    clean = make_report()
    report = make_report(
        title=hostile,
        note=hostile,
        command=hostile,
        config={hostile: hostile},
        metric=hostile,
        stop_reason=hostile,
        versions={hostile: hostile},
        artifacts={hostile: hostile},
        device={"name": hostile, "cpu": hostile, "fingerprint": {hostile: [hostile]}},
        data={"name": hostile, "hash": hostile, "split_sizes": {hostile: 1}},
        final=Stage(
            cost={}, metrics={hostile: 0.5}, widths={hostile: (4, 2)}, bits={hostile: 8}
        ),
        history=[renamed(row) for row in clean["history"]],
        spend={"usd": {"value": 1.0, "method": "exact", "assumptions": hostile}},
        not_counted=[hostile],
        pruning={
            "groups": [{"name": hostile, "layers": [hostile], "ranks": [0, 1], "kept": 1}],
            "left_alone": {hostile: hostile},
            "steps": [{"epoch": 1, "kept": [1], "is_made": True}],
            "remarks": [hostile],
            "search": {
                "is_reused": True,
                "flops": 1.0,
                "trials": [pruning["search"]["trials"][0] | {"base": hostile}],
            },
            "frontier": [{"cost": {}, "metrics": {hostile: 0.5}, "keep_ratio": 0.5}],
        },
    )  # fmt: skip
    reader = Reader(render_report(report))
    assert {tag for tag, _ in reader.elements} <= ALLOWED
    names = {name for _, attributes in reader.elements for name in attributes}
    assert not names & {"src", "href", "onerror"}
    assert reader.text.count(hostile) > 24


def test_missing_values_are_named(make_report):
    report = make_report(
        final=Stage(cost={}),
        limits={Resource.usd_per_million: 1.0},
        history=[],
        spend={},
        parity=None,
        pruning=None,
        seed=None,
        training_limits={},
    )
    text = Reader(render_report(report)).text
    for shown in ("it could not be priced", "1 of 1 limit not kept", "No epoch ended", "not set",
                  "No layer changed", "was not compared", "val_acc was not recorded",
                  "not recorded", "not known"):  # fmt: skip
        assert shown in text, shown


def test_a_limit_that_is_not_kept_leads_the_page(make_report):
    text = Reader(render_report(make_report(limits={Resource.macs: 1e6}))).text
    assert "1 of 2 limits not kept" in text
    assert "4562.7 % over" in text


@pytest.mark.parametrize(
    ("limit", "words"),
    [(1e8, "Every limit kept"), (1e6, "1 of 2 limits not kept"), (None, "No limit was set")],
)
def test_a_file_that_computes_something_else_leads_the_page(make_report, unfaithful, limit, words):
    limits = {} if limit is None else {Resource.macs: limit}
    training = {} if limit is None else {"wall_clock_s": 7200.0}
    report = make_report(limits=limits, training_limits=training, parity=unfaithful)
    page = render_report(report)
    said = f"{words}; the deployed file does not compute what was trained"
    assert f'<p class="verdict broken">{said}</p>' in page
    assert "verdict kept" not in page


def test_the_bar_of_a_limit_shows_the_dense_network_that_its_percentage_is_of(make_report):
    # alone, on its fastest runtime, it takes 2.94 ms
    base = {Resource.latency_ms: Measurement(value=3.2, unit="ms", method=Method.measured)}
    page = render_report(make_report(limits={Resource.latency_ms: 1.6}, base=base))
    bars = page[page.index("Budget</h2>") : page.index("Before and after")]
    assert "dense 3.20 ms (measured)" in bars
    assert f'class="dense" style="width:{100 / 1.02:.2f}%"' in bars
    assert f'class="limit" style="left:{50 / 1.02:.2f}%"' in bars


def test_the_bar_of_a_limit_whose_dense_value_is_not_known_shows_that_of_the_report(make_report):
    base = {Resource.macs: Measurement.exact(Resource.macs, 1)}
    page = render_report(make_report(limits={Resource.latency_ms: 1.6}, base=base))
    assert "dense 2.94 ms (measured)" in page


def _luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    "name", ["ink", "soft", "fill", "limit", "good", *map("c{}".format, range(7))]
)
def test_text_colours_have_the_contrast_that_wcag_asks_for(mode, name):
    style = files("lightning_cost.report").joinpath("style.css").read_text(encoding="utf-8")
    block = re.findall(r":root \{(.*?)\}", style, re.DOTALL)[mode]
    colours = dict(re.findall(r"--(\w+): (#\w{6})", block))
    light, dark = sorted((_luminance(colours[key]) for key in (name, "paper")), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5
