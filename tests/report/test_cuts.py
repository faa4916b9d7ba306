import re

import pytest

from lightning_cost.report import cuts
from lightning_cost.report.document import Stage
from lightning_cost.report.html import render_report


def rows_of(markup, list_class):
    """The rows of a list, each as the texts of its cells."""
    listed = re.findall(rf'<ol class="{list_class}">(.*?)</ol>', markup)
    rows = re.findall(r"<li.*?</li>", "".join(listed))
    return [
        [re.sub("<.*?>", "", cell) for cell in re.findall(r"<(?:b|em|small)>(.*?)</", row)]
        for row in rows
    ]


def large(pruning, num_groups=200, num_channels=512):
    """A network of many wide layers, whose channels take turns in the ranking."""
    names = [f"stages.{index}.conv" for index in range(num_groups)]
    groups = [
        {
            "name": name,
            "layers": [name],
            "ranks": list(range(place, num_groups * num_channels, num_groups)),
            "kept": num_channels // 2,
        }
        for place, name in enumerate(names)
    ]
    steps = [{"epoch": 1.5, "kept": [num_channels // 2] * num_groups, "is_made": True}]
    widths = {name: (num_channels, num_channels // 2) for name in names}
    return pruning | {"groups": groups, "steps": steps}, Stage(cost={}, widths=widths)


def test_every_layer_is_listed_with_its_width_and_keep_ratio(report):
    widths = report["final"]["widths"]
    drawn = cuts.layers(report)
    assert rows_of(drawn, "layers") == [
        [name, f"{before} → {after}", f"{100 * after / before:.0f} %", "8 bit"]
        for name, (before, after) in widths.items()
    ]


def test_columns_are_as_high_as_the_layers_are_wide(report):
    wide, *_ = re.findall(r"<svg.*?</svg>", cuts.layers(report))
    heights = [
        (style, float(height))
        for height, style in re.findall(r'<rect [^>]*height="([\d.]+)" class="(\w+)"', wide)
    ]
    widths = list(report["final"]["widths"].values())
    scale = heights[-4][1] / widths[-2][0]  # of the last layer but one
    for (before, after), was, now in zip(widths, heights[::2], heights[1::2], strict=True):
        assert was == ("was", pytest.approx(before * scale, abs=0.15))
        assert now[1] == pytest.approx(after * scale, abs=0.15)
    assert [style for style, _ in heights[1::2]] == ["stays"] * (len(widths) - 1) + ["alone"]


def test_layers_left_alone_are_named_with_the_reason(report):
    drawn = cuts.layers(report)
    assert "left alone because" in drawn
    assert "its channels are the network&#x27;s output" in drawn
    assert drawn.count('class="final alone"') == 1


def test_ranking_has_a_row_for_each_group_and_a_line_for_each_step_made(report):
    groups, steps = report["pruning"]["groups"], report["pruning"]["steps"]
    drawn = cuts.ranking(report)
    _, *rows = rows_of(drawn, "ranks")
    assert rows == [
        [
            group["name"],
            f"{group['kept']} of {len(group['ranks'])}",
            f"{100 * group['kept'] / len(group['ranks']):.1f} %",
        ]
        for group in groups
    ]
    total = sum(len(group["ranks"]) for group in groups)
    made = [total - sum(step["kept"]) for step in steps if step["is_made"]]
    shown = re.findall(r'<i style="left:([\d.]+)%">(\d)</i>', drawn)
    assert shown == [
        (f"{100 * line / total:.2f}", str(number)) for number, line in enumerate(made, 1)
    ]
    assert drawn.count('class="cut"') == len(made) * len(groups)


def test_steps_show_what_is_left_after_each(report):
    drawn = cuts.steps(report)
    totals = [len(group["ranks"]) for group in report["pruning"]["groups"]]
    for step in report["pruning"]["steps"]:
        assert f"{sum(step['kept'])} of {sum(totals)}" in drawn
        assert f"width:{100 * sum(step['kept']) / sum(totals):.2f}%" in drawn
    assert len(re.findall(">made<", drawn)) == 2
    assert len(re.findall(">not made<", drawn)) == 1
    assert "25.0 % of stage1.2.conv1" in drawn
    assert "pruning step 3 of 3 removes nothing" in drawn


def test_a_network_of_200_layers_stays_small_and_shows_the_first(make_report, pruning):
    pruning, final = large(pruning)
    report = make_report(pruning=pruning, final=final)
    page = render_report(report)
    assert len(page) < 1_000_000
    assert page.count("<summary>140 more layers</summary>") == 1
    assert page.count("<summary>140 more groups</summary>") == 1
    assert len(rows_of(cuts.layers(report), "layers")) == 200


def test_without_pruning_there_is_nothing_of_it(make_report):
    report = make_report(pruning=None)
    assert cuts.ranking(report) is None
    assert cuts.steps(report) is None
    assert "left alone" not in cuts.layers(report)
    assert "FIXTURE" in render_report(report)


def test_a_fit_that_was_over_before_the_first_step(make_report, pruning):
    steps = [step | {"is_made": False} for step in pruning["steps"]]
    groups = [group | {"kept": len(group["ranks"])} for group in pruning["groups"]]
    report = make_report(pruning=pruning | {"steps": steps, "groups": groups})
    drawn = cuts.ranking(report)
    assert 'class="cut"' not in drawn
    assert all(row[2] == "100.0 %" for row in rows_of(drawn, "ranks")[1:])
