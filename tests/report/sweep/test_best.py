from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.report.sweep.best import best_runs
from tests.report.sweep.rows import rows_of

NUMBERS = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 4)), max_size=8)
LIMITS = st.lists(st.integers(1, 7), max_size=3)


@given(NUMBERS, LIMITS)
def test_nothing_within_a_budget_is_better(numbers, limits):
    rows = rows_of(numbers)
    found = best_runs(rows, {"macs": "min", "acc": "max"}, [{"macs": limit} for limit in limits])
    asked = [each for each in found if each.is_asked]
    assert [each.limits["macs"] for each in asked] == sorted(set(limits), reverse=True)
    for each in found:
        within = [accuracy for cost, accuracy in numbers if cost <= each.limits["macs"]]
        assert each.value == max(within, default=None)
        assert (each.run is None) == (not within)


@given(NUMBERS, st.integers(1, 7))
def test_every_tighter_budget_has_its_best_run(numbers, widest):
    """Whatever the limit, the last of the found budgets that it holds names the best value."""
    found = best_runs(rows_of(numbers, widest), {"macs": "min", "acc": "max"})
    for limit in range(1, widest + 1):
        within = [accuracy for cost, accuracy in numbers if cost <= limit]
        named = [
            each.value
            for each in found
            if each.run is not None and numbers[int(each.run)][0] <= limit
        ]
        assert max(named, default=None) == max(within, default=None)


def test_a_loss_is_to_be_small():
    found = best_runs(rows_of([(1, 3), (2, 1), (3, 2)], 5), {"macs": "min", "acc": "min"})
    assert [(each.run, each.is_asked) for each in found] == [("1", True), ("0", False)]


def test_budgets_that_differ_from_run_to_run_are_not_listed():
    rows = [rows_of([(1, 1)], limit / 10)[0] for limit in range(20, 40)]
    assert [each.is_asked for each in best_runs(rows, {"acc": "max"})] == [False]


@given(NUMBERS, st.integers(1, 7), st.sets(st.integers(0, 7)))
def test_a_run_whose_file_computes_something_else_is_never_the_best(numbers, limit, unfaithful):
    found = best_runs(rows_of(numbers, limit, unfaithful), {"macs": "min", "acc": "max"})
    honest = [pair for at, pair in enumerate(numbers) if at not in unfaithful]
    assert not {each.run for each in found} & {str(at) for at in unfaithful}
    for each in found:
        within = [accuracy for cost, accuracy in honest if cost <= each.limits["macs"]]
        assert each.value == max(within, default=None)
