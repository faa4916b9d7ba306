from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.report.sweep.document import build_document
from lightning_cost.report.sweep.rows import collect
from lightning_cost.report.sweep.spend import left_out, saved_spend, spend, total_spend
from tests.report.sweep.rows import rows_of


def rows_that_spent(amounts):
    return [
        replace(row, spend={"usd": {"value": amount, "unit": "USD", "method": method}})
        for row, (amount, method) in zip(rows_of([(1, 1)] * len(amounts)), amounts, strict=True)
    ]


METHODS = st.sampled_from(["exact", "measured", "estimated"])
AMOUNTS = st.lists(st.tuples(st.none() | st.integers(0, 1000), METHODS), max_size=6)


@given(AMOUNTS, st.integers(0, 9))
def test_a_sum_is_of_what_is_known_and_as_sure_as_its_parts(amounts, num_infeasible):
    totals = total_spend(rows_that_spent(amounts))
    known = [(value, method) for value, method in amounts if value is not None]
    saved = saved_spend(totals, num_infeasible)
    if not known:
        unknown = {"value": None, "unit": "USD", "method": None, "num_runs": 0}
        assert totals == ({"usd": unknown} if amounts else {})
        assert saved == {}
        return
    assert totals["usd"]["value"] == sum(value for value, _ in known)
    assert totals["usd"]["num_runs"] == len(known)
    assert (totals["usd"]["method"] == "exact") == ({m for _, m in known} == {"exact"})
    assert bool(saved) == (num_infeasible > 0)
    if saved:
        mean = totals["usd"]["value"] / len(known)
        assert saved["usd"]["value"] == pytest.approx(num_infeasible * mean)
        assert saved["usd"]["method"] == "estimated"


def test_what_left_no_report_is_said(study_dir, make_study):
    study = make_study()
    trials = {"pruned": 1, "failed": 1, "running": 1, "waiting": 1}
    assert left_out(study) == {"trials": trials, "seconds": 30.0}
    found = spend(build_document(collect(study_dir), study))
    assert "1 pruned, 1 failed, 1 running, 1 waiting; by the clock they took 30.0 s." in found
    assert "1 trial was known to break a limit and was not trained" in found
    assert "1.31 P FLOPs" in found
    assert "0 of 1" in found  # no price


def test_without_a_study_nothing_is_left_out_or_saved(study_dir):
    found = spend(build_document(collect(study_dir)))
    assert "not spent" not in found
    assert "Not in these sums" not in found
