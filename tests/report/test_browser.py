"""The page in a real browser; needs ``chromium`` (``apt-get install chromium``)."""

import json
import re
import shutil
import struct
import subprocess
from html import escape

import pytest

from lightning_cost.report.html import render_report, write_report
from lightning_cost.report.sweep.page import write_sweep
from lightning_cost.report.sweep.rows import collect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars",
]  # fmt: skip

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is not installed; `apt-get install chromium` gives it"
)


@pytest.fixture
def browse(tmp_path):
    """Open a page text in a fresh browser of some width; gives what it prints."""

    def run(page, width, *flags):
        path = tmp_path / "page.html"
        path.write_text(page, encoding="utf-8")
        command = [
            CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}",
            f"--window-size={width},2000", *flags, path.as_uri(),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout

    return run


def framed(page, width):
    """A document that shows the page at a width and makes the page's measures its title.

    A frame, because a browser's window cannot be as narrow as a telephone.
    """
    measure = (
        "const page = this.contentDocument, root = page.documentElement;"
        "const charts = [...page.querySelectorAll('.chart')]"
        ".filter(chart => chart.getBoundingClientRect().width > 0);"
        "document.title = [this.contentWindow.innerWidth, root.scrollWidth,"
        " charts.length, charts.every(chart =>"
        " chart.querySelector('text').getBoundingClientRect().height > 10)].join(' ')"
    )
    style = f"border: 0; height: 2000px; width: {width}px"
    content = escape(page, quote=True)
    return f'<title></title><iframe style="{style}" onload="{measure}" srcdoc="{content}"></iframe>'


def measures(dom):
    return re.search("<title>(.*?)</title>", dom).group(1).split()


@pytest.mark.parametrize("width", [400, 900, 1400])
def test_page_fits_its_window(browse, report, width):
    dom = browse(framed(render_report(report), width), 1500, "--dump-dom")
    inner, scroll, num_charts, is_legible = measures(dom)
    assert (int(inner), int(num_charts)) == (
        width,
        2 + 2 + 1 + 3,
    )  # curves, layers, search, frontier
    assert int(scroll) <= width
    assert is_legible == "true"


@pytest.mark.parametrize("width", [400, 900, 1400])
def test_page_of_a_study_fits_its_window(browse, study_dir, make_study, hostile, width):
    page = write_sweep(collect(study_dir), make_study(hostile * 2)).read_text(encoding="utf-8")
    dom = browse(framed(page, width), 1500, "--dump-dom")
    inner, scroll, num_charts, is_legible = measures(dom)
    assert (int(inner), int(num_charts)) == (width, 6 + 1 + 6)  # runs, history, ranking
    assert int(scroll) <= width
    assert is_legible == "true"


def test_a_study_can_be_walked_through(browse, study_dir, make_study):
    """Marks have colours of their own, and links lead to runs that are there."""
    page = write_sweep(collect(study_dir), make_study("<script>")).read_text(encoding="utf-8")
    measure = (
        "const page = this.contentDocument;"
        "const shown = style => this.contentWindow.getComputedStyle("
        "page.querySelector('.chart .' + style)).stroke;"
        "const kinds = ['infeasible', 'pruned', 'on-front'].map(shown);"
        "document.title = [new Set(kinds).size, page.querySelectorAll('script').length,"
        " page.querySelector('a').getAttribute('href')].join(' ')"
    )
    content = escape(page, quote=True)
    frame = f'<title></title><iframe onload="{measure}" srcdoc="{content}"></iframe>'
    num_colours, num_scripts, link = measures(browse(frame, 1500, "--dump-dom"))
    assert (num_colours, num_scripts) == ("3", "0")
    assert (study_dir / link).parent.is_dir()


def test_policy_of_the_page_stops_scripts(browse, report):
    attack = "<script>document.title = 'ran'</script></body>"
    dom = browse(render_report(report).replace("</body>", attack), 800, "--dump-dom")
    assert "<title>resnet20 on fashion_mnist: cost report</title>" in dom


def test_hostile_names_fit_and_do_not_run(browse, make_report, hostile):
    report = make_report(title=hostile * 3, note=hostile, command=hostile * 9, stop_reason=hostile)
    dom = browse(framed(render_report(report), 400), 1500, "--dump-dom")
    inner, scroll, *_ = measures(dom)
    assert int(scroll) <= int(inner)


def test_picture_is_not_blank(browse, report, tmp_path):
    picture = tmp_path / "page.png"
    browse(render_report(report), 1000, f"--screenshot={picture}")
    content = picture.read_bytes()
    assert content.startswith(b"\x89PNG")
    assert struct.unpack(">II", content[16:24]) == (1000, 2000)
    assert len(content) > 50_000


MARKUP = "<img src=x onerror=document.title='ran'><script>document.title='ran'</script>"
NAMES = (
    *("stem.conv", "stage1.0.conv1", "classifier", "val_acc", "resnet20", "fashion_mnist"),
    *("openvino", "Example CPU", "warm-up", "pruning step 3", "0f1e2d3c4b5a", "avx2", "aten::sort"),
)


def marked_up(report):
    """The same report with markup in every kind of name that a run, a user or a device gives."""
    text = json.dumps(report)
    for name in NAMES:
        assert name in text
        text = text.replace(name, f"{name}{MARKUP}")
    return json.loads(text)


def without_policy(page):
    """What is escaped must be inert by itself, not only by the page's own ban on scripts."""
    bare, found = re.subn('<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    assert found == 1
    return bare


def test_markup_in_names_is_shown_and_not_run(browse, report, run_dir):
    (run_dir / "report.json").write_text(json.dumps(marked_up(report)))
    page = without_policy(write_report(run_dir).read_text(encoding="utf-8"))
    dom = browse(page, 1000, "--dump-dom")
    assert "<img" not in dom
    assert "<script" not in dom
    shown = re.search("<title>(.*?)</title>", dom, re.DOTALL).group(1)
    assert shown.startswith("resnet20&lt;img src=x")
    # a name of a layer may be broken after its dots, within the markup too
    assert dom.count("&lt;script&gt;") > len(NAMES)


def test_markup_in_a_sweep_is_shown_and_not_run(browse, report, tmp_path):
    sweep_dir = tmp_path / "sweep"
    for run, width in (("0", 8), ("<img src=x onerror=document.title='ran'>", 16)):
        (sweep_dir / run).mkdir(parents=True)
        document = marked_up(report)
        document["config"]["model"]["width"] = f"{width}{MARKUP}"
        (sweep_dir / run / "report.json").write_text(json.dumps(document))
    page = without_policy(write_sweep(collect(sweep_dir)).read_text(encoding="utf-8"))
    dom = browse(page, 1000, "--dump-dom")
    assert "<img" not in dom
    assert "<script" not in dom
    assert "ran" not in re.search("<title>(.*?)</title>", dom, re.DOTALL).group(1)
    assert "&lt;img src=x onerror=document" in dom
