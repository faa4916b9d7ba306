import json
import re
from dataclasses import replace

import pytest

from lightning_cost.cost.resource import Resource
from lightning_cost.report.files import save_report
from lightning_cost.report.sweep.page import sweep_table, write_sweep
from lightning_cost.report.sweep.rows import collect

RUNS = [(0.68, 2.1, 0.9215), (0.43, 1.3, 0.9221), (0.29, 0.7, 0.9168), (0.30, 0.9, None)]


@pytest.fixture
def sweep_dir(tmp_path, make_report, make_final, hostile):
    for run, numbers in enumerate(RUNS):
        folder = tmp_path / str(run)
        folder.mkdir()
        config = {"budget": {"macs": hostile if run == 0 else f"{run}0%"}, "seed": 1}
        limits = {Resource.macs: 6e7}
        save_report(make_report(final=make_final(*numbers), limits=limits, config=config), folder)
    return tmp_path


def test_document_says_which_runs_are_on_the_front(sweep_dir):
    assert write_sweep(collect(sweep_dir)) == sweep_dir / "report.html"
    document = json.loads((sweep_dir / "sweep.json").read_text(encoding="utf-8"))
    assert document["objectives"] == {"macs": "min", "val_acc": "max"}
    assert [row["on_front"] for row in document["runs"]] == [False, True, True, False]
    assert document["runs"][2]["cost"]["latency_ms"]["method"] == "measured"


def test_page_plots_what_is_known_and_escapes_the_rest(sweep_dir, hostile):
    page = write_sweep(collect(sweep_dir)).read_text(encoding="utf-8")
    assert "2 of 4 runs on the front" in page
    assert hostile not in page
    assert "<script" not in page
    pareto, path = page.split(">Runs<")
    drawn = 6 * 2  # plots, widths
    assert pareto.count('class="on-front"') == drawn + 1  # and once in the key
    assert pareto.count('class="dense-dot"') == drawn + 1
    assert pareto.count('class="not-kept"') == 2 * drawn + 1
    assert path.count('<circle cx="') == drawn * (4 + 3 + 1)  # and networks before recovery
    assert re.search(r"val_acc against latency.*latency \(measured on openvino\)", page)


def test_one_search_for_all_runs_is_said(tmp_path, make_report, make_final, pruning):
    for run in range(3):
        (tmp_path / str(run)).mkdir()
        found = pruning["search"] | {"is_reused": run > 0}
        changed = pruning | {"search": found, "frontier": [] if run else pruning["frontier"]}
        report = make_report(pruning=changed, final=make_final(0.5, 1.0, 0.9 + 0.01 * run))
        save_report(report, tmp_path / str(run))
    page = write_sweep(collect(tmp_path)).read_text(encoding="utf-8")
    sentence = "One search of 8 candidates, in run 0, served all 3 runs."
    assert sentence in page
    assert sweep_table(collect(tmp_path)).splitlines()[-1] == sentence
    document = json.loads((tmp_path / "sweep.json").read_text(encoding="utf-8"))
    assert document["searches"] == {"0": ["0", "1", "2"]}
    assert document["frontiers"]["0"] == pruning["frontier"]
    assert all("search" not in row and "frontier" not in row for row in document["runs"])


def test_one_run_shares_its_search_with_nobody(tmp_path, report):
    (tmp_path / "0").mkdir()
    save_report(report, tmp_path / "0")
    page = write_sweep(collect(tmp_path)).read_text(encoding="utf-8")
    assert "1 of 1 runs on the front" in page
    assert "before recovery" in page
    assert "One search" not in page


def test_one_run_without_pruning(tmp_path, make_report):
    (tmp_path / "0").mkdir()
    save_report(make_report(pruning=None), tmp_path / "0")
    page = write_sweep(collect(tmp_path)).read_text(encoding="utf-8")
    assert "1 of 1 runs on the front" in page
    assert "before recovery" not in page
    assert "One search" not in page


def test_writing_twice_gives_the_same_page(sweep_dir):
    first = write_sweep(collect(sweep_dir)).read_bytes()
    assert write_sweep(collect(sweep_dir)).read_bytes() == first


def test_text_table(sweep_dir):
    (sweep_dir / "2" / "report.json").write_text("{")
    lines = sweep_table(collect(sweep_dir)).splitlines()
    assert lines[0].split()[:5] == ["run", "MACs", "latency", "size", "val_acc"]
    assert lines[3].startswith("1    *  69.6 M MACs exact  1.30 ms measured on openvino")
    assert "NOT KEPT" in lines[2]
    assert "not known" in lines[4]
    assert lines[5].startswith("2 is left out: ")


def test_a_study_has_all_of_its_parts(study_dir, make_study):
    page = write_sweep(collect(study_dir), make_study()).read_text(encoding="utf-8")
    headings = re.findall("<h2>(.*?)</h2>", page)
    assert headings == [
        "Quality against cost",
        "Best run per budget",
        "Best value over trials",
        "What mattered",
        "Spent on the sweep",
        "Trials",
        "Along the ranking",
    ]
    assert "6 trials: 1 finished, 1 infeasible, 1 pruned, 1 failed, 1 running, 1 waiting." in page


def test_names_of_a_study_are_shown_as_text(study_dir, make_study, hostile):
    for name in (hostile, "<script>"):
        page = write_sweep(collect(study_dir), make_study(name)).read_text(encoding="utf-8")
        assert "<script" not in page
        assert "<img" not in page
        assert "&lt;script&gt;" in page


def test_a_study_in_which_nothing_was_trained(tmp_path, make_study):
    study = make_study()
    refused = replace(study, trials=tuple(study.of_state("infeasible")))
    page = write_sweep(collect(tmp_path), refused).read_text(encoding="utf-8")
    assert "No run came to its end" in page
    assert "Nothing was feasible; the nearest, model.width=64" in page
    assert "No metric and resource are known together." in page
    assert "<details open" in page


def test_the_links_lead_to_the_pages_of_the_runs(tmp_path, report):
    run = tmp_path / "budget.macs=70%,a b#1"
    run.mkdir()
    save_report(report, run)
    page = write_sweep(collect(tmp_path)).read_text(encoding="utf-8")
    links = set(re.findall('href="(.*?)"', page))
    assert links == {"./budget.macs%3D70%25%2Ca%20b%231/report.html"}


def test_a_run_whose_file_computes_something_else_is_named(
    tmp_path, make_report, make_final, unfaithful
):
    for run, accuracy in enumerate((0.91, 0.95)):
        (tmp_path / str(run)).mkdir()
        parity = {"parity": unfaithful} if run else {}
        final = make_final(0.5, 1.0, accuracy)
        save_report(
            make_report(final=final, limits={Resource.macs: 1e8}, **parity), tmp_path / str(run)
        )
    sweep = collect(tmp_path)
    page = write_sweep(sweep).read_text(encoding="utf-8")
    document = json.loads((tmp_path / "sweep.json").read_text(encoding="utf-8"))
    assert {each["run"] for each in document["best"]} == {"0"}
    assert ["parity broken" in "".join(run["broken"]) for run in document["runs"]] == [False, True]
    assert "parity broken: on openvino the file computes something else" in page
    assert 'class="not-kept"' in page
    assert "NOT KEPT" in sweep_table(sweep).splitlines()[3]
