import re
from itertools import pairwise

from lightning_cost.report.search import search


def wide(markup):
    return re.search('<svg [^>]*class="chart wide".*?</svg>', markup).group()


def test_every_candidate_with_a_finite_loss_is_a_dot_of_its_kind(report):
    drawn = wide(search(report))
    kinds = re.findall(r'<circle [^>]*r="3" class="(\w+)"', drawn)
    assert sorted(kinds) == ["judged"] * 3 + ["plain"] * 3 + ["rejected"]
    assert "candidate 2, plain ranking l2: 0.700" in drawn
    assert "candidate 4, from uniform, rejected at a glance: 2.50" in drawn
    assert "candidate 7" not in drawn
    heights = [float(cy) for cy in re.findall(r'<circle [^>]*cy="([-\d.]+)" r="3"', drawn)]
    assert min(heights) > 0  # the worst one too lies within the drawing


def test_best_so_far_never_rises_and_ends_at_the_best(report):
    drawn = wide(search(report))
    (line,) = re.findall(r'<polyline points="([^"]*)"', drawn)
    corners = [tuple(map(float, point.split(","))) for point in line.split()]
    heights = [y for _, y in corners]
    assert heights == sorted(heights)  # downwards on the page
    assert all(a[0] == b[0] or a[1] == b[1] for a, b in pairwise(corners))  # a staircase
    assert "best 0.640" in drawn


def test_facts(report):
    text = re.sub("<.*?>", "|", search(report))
    for shown in ("|8|", "|1|", "|0.640|", "|l2, 0.700 (the search is 8.6 % below)|", "8.00 G"):
        assert shown in text, shown
    assert "judged by" not in text


def test_a_search_of_another_run_is_said(make_report, pruning):
    found = pruning["search"] | {"is_reused": True, "flops": 0.0}
    drawn = search(make_report(pruning=pruning | {"search": found}))
    assert "another run of the sweep<" in drawn


def test_no_search(make_report, pruning):
    given = search(make_report(pruning=pruning | {"search": None}))
    assert "The ranking was given: nothing was searched." in given
    assert search(make_report(pruning=None)) is None


def test_no_finite_loss(make_report, pruning):
    trials = [t | {"loss": float("inf"), "best": float("inf")} for t in pruning["search"]["trials"]]
    report = make_report(pruning=pruning | {"search": pruning["search"] | {"trials": trials}})
    assert "No candidate had a loss that is a number." in search(report)
