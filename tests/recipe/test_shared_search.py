"""The budget that serves all runs of a sweep."""

import json

import pytest

from lightning_cost.budget.model import ModelBudget
from lightning_cost.recipe.shared_search import BUDGET_NAME, announce, shared_search, tightest


def test_the_least_of_each_limit_that_all_set():
    budgets = [
        ModelBudget(macs="70%", latency_ms="2 ms", params=1e6),
        ModelBudget(macs="25%", latency_ms=0.5),
        ModelBudget(macs="50%", latency_ms="900 us"),
    ]
    assert tightest(budgets) == ModelBudget(macs="25%", latency_ms=0.5)
    assert tightest(budgets[:1]) == budgets[0]


def test_limits_that_cannot_be_compared_are_left_out():
    assert tightest([ModelBudget(macs="70%"), ModelBudget(macs=1e6)]).is_empty
    assert tightest([ModelBudget(macs="70%"), ModelBudget(params="70%")]).is_empty


def test_runs_read_what_their_sweep_announced(tmp_path):
    assert shared_search(tmp_path).budget.is_empty
    announce(tmp_path / "new", [ModelBudget(macs="70%"), ModelBudget(macs="25%")])
    found = shared_search(tmp_path / "new")
    assert found.folder == str(tmp_path / "new")
    assert found.budget == ModelBudget(macs="25%")
    assert json.loads((tmp_path / "new" / BUDGET_NAME).read_text()) == {"macs": "25%"}


def test_a_damaged_announcement_is_refused(tmp_path):
    (tmp_path / BUDGET_NAME).write_text("{")
    with pytest.raises(ValueError, match=f"{BUDGET_NAME} must be what the sweep wrote"):
        shared_search(tmp_path)
    (tmp_path / BUDGET_NAME).write_text('{"speed": 1}')
    with pytest.raises(ValueError, match="a model budget must limit a known resource"):
        shared_search(tmp_path)
