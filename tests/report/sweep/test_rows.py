import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.cost.resource import Resource
from lightning_cost.report.files import save_report
from lightning_cost.report.sweep.rows import collect, default_objectives, differences, pareto_front

ROWS = st.lists(
    st.fixed_dictionaries({"cost": st.integers(0, 6), "acc": st.integers(0, 6)}), max_size=25
)


def staircase(rows):
    """The front of two objectives by sorting: walk from cheap to dear, keep what gets better."""
    best, kept = -1, set()
    for cost in sorted({row["cost"] for row in rows}):
        top = max(row["acc"] for row in rows if row["cost"] == cost)
        if top > best:
            kept |= {i for i, row in enumerate(rows) if (row["cost"], row["acc"]) == (cost, top)}
            best = top
    return sorted(kept)


@given(ROWS)
def test_front_is_the_staircase(rows):
    assert pareto_front(rows, {"cost": "min", "acc": "max"}) == staircase(rows)


@given(ROWS)
def test_one_objective_leaves_the_best(rows):
    best = min((row["cost"] for row in rows), default=None)
    expected = [i for i, row in enumerate(rows) if row["cost"] == best]
    assert pareto_front(rows, {"cost": "min"}) == expected


def test_a_row_without_an_objective_is_not_on_the_front():
    rows = [{"cost": 1.0, "acc": None}, {"acc": 1.0}, {"cost": 9.0, "acc": 0.1}]
    assert pareto_front(rows, {"cost": "min", "acc": "max"}) == [2]


def test_bad_objectives():
    with pytest.raises(ValueError, match="objectives must name at least one value, got none"):
        pareto_front([], {})
    with pytest.raises(ValueError, match=r"objectives\['acc'\] must be \"min\" or \"max\""):
        pareto_front([], {"acc": "up"})


def test_differences_name_what_varies_and_what_is_absent():
    configs = {"0": {"a": {"b": 1, "c": 0}}, "1": {"a": {"b": 2, "c": 0}, "d": True}}
    assert differences(configs) == {"0": {"a.b": 1, "d": None}, "1": {"a.b": 2, "d": True}}


@pytest.fixture
def sweep_dir(tmp_path, make_report, make_final):
    for run, (share, latency, accuracy) in enumerate([(0.7, 2.1, 0.92), (0.3, 0.9, 0.91)] * 6):
        folder = tmp_path / str(run)
        folder.mkdir()
        final = make_final(share, latency, accuracy)
        limits = {Resource.macs: 1e8} if run else {Resource.macs: 1e8, Resource.latency_ms: 3.0}
        save_report(make_report(final=final, limits=limits, config={"run": run}), folder)
    return tmp_path


def test_runs_come_in_the_order_of_their_numbers(sweep_dir):
    sweep = collect(sweep_dir)
    assert [row.run for row in sweep.rows] == [str(run) for run in range(12)]
    assert sweep.rows[10].settings == {"run": 10}
    assert sweep.rows[1].values["latency_ms"] == 0.9
    assert sweep.rows[0].broken == ("macs must be <= 100,000,000 MAC, got 113,330,000 MAC",)
    assert sweep.rows[1].broken == ()


def test_objectives_are_the_limited_resources_and_the_metric(sweep_dir):
    objectives = default_objectives(collect(sweep_dir).rows)
    assert objectives == {"macs": "min", "latency_ms": "min", "val_acc": "max"}


def test_runs_that_cannot_be_read_are_named(sweep_dir):
    (sweep_dir / "3" / "report.json").write_text("{")
    (sweep_dir / "4" / "report.json").write_text(json.dumps({"schema_version": 0}))
    (sweep_dir / "12" / ".hydra").mkdir(parents=True)
    sweep = collect(sweep_dir)
    assert len(sweep.rows) == 10
    assert list(sweep.unreadable) == ["3", "4", "12"]
    assert "must be a whole JSON document" in sweep.unreadable["3"]
    assert "schema_version 5, got 0" in sweep.unreadable["4"]
    assert "report is written when a fit ends" in sweep.unreadable["12"]


def test_runs_that_share_a_search_are_told_apart_from_those_that_searched_alike(
    tmp_path, make_report, pruning
):
    own, other = pruning["search"], pruning["search"] | {"trials": pruning["search"]["trials"][:4]}
    searches = [own | {"is_reused": True}, own, other, own, None, other | {"is_reused": True}]
    for run, found in enumerate(searches):
        (tmp_path / str(run)).mkdir()
        frontier = [] if found and found["is_reused"] else pruning["frontier"]
        changed = pruning | {"search": found, "frontier": frontier}
        save_report(make_report(pruning=changed), tmp_path / str(run))
    sweep = collect(tmp_path)
    assert sweep.searches == {"1": ("1", "0"), "2": ("2", "5"), "3": ("3",)}
    assert list(sweep.frontiers) == ["1"]  # the same points count once


def test_runs_without_pruning_have_no_search(tmp_path, make_report):
    (tmp_path / "0").mkdir()
    save_report(make_report(pruning=None), tmp_path / "0")
    sweep = collect(tmp_path)
    assert (sweep.searches, sweep.frontiers) == ({}, {})


def test_a_directory_without_runs(tmp_path):
    with pytest.raises(ValueError, match=r"sweep_dir must hold runs .* \(no run directory in it\)"):
        collect(tmp_path).require_rows()


def test_a_run_whose_file_computes_something_else_does_not_keep_its_word(
    tmp_path, make_report, unfaithful
):
    limits = {Resource.macs: 1e8}
    for run, changes in enumerate(({}, {"parity": unfaithful}, {"parity": None})):
        (tmp_path / str(run)).mkdir()
        save_report(make_report(limits=limits, **changes), tmp_path / str(run))
    rows = collect(tmp_path).rows
    assert [row.is_faithful for row in rows] == [True, False, True]
    assert [len(row.broken) for row in rows] == [0, 1, 0]
    assert rows[1].broken[0].startswith("parity broken: on openvino the file computes something")
    assert "is_faithful" not in rows[1].to_dict()
