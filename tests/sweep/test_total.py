from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.sweep.total import RunSpend, total_of

AMOUNTS = st.integers(0, 10**15)
RUNS = st.lists(st.builds(RunSpend, train_flops=AMOUNTS, search_flops=AMOUNTS, hours=AMOUNTS))


def named(runs):
    return {str(number): run for number, run in enumerate(runs)}


@given(RUNS)
def test_runs_that_searched_for_themselves_are_separate_runs(runs):
    total = total_of(named(runs), {name: (name,) for name in named(runs)})
    assert total.separate_flops == total.train_flops + total.search_flops
    assert total == total_of(named(runs))


@given(AMOUNTS, st.lists(AMOUNTS, min_size=1, max_size=9), AMOUNTS)
def test_one_search_for_all_is_saved_by_all_but_one(search, trained, refit):
    runs = [
        RunSpend(train_flops=flops, search_flops=refit + (0 if number else search), hours=0)
        for number, flops in enumerate(trained)
    ]
    total = total_of(named(runs), {"0": tuple(named(runs))})
    saved = total.separate_flops - total.train_flops - total.search_flops
    assert saved == search * (len(runs) - 1)


def test_the_line_says_both():
    runs = [
        RunSpend(train_flops=6e9, search_flops=2e9, hours=0.5),
        RunSpend(train_flops=6e9, search_flops=0, hours=0.25),
    ]
    said = str(total_of(named(runs), {"0": ("0", "1")}))
    assert said == (
        "In all 14.0 G FLOPs (search 2.00 G FLOPs) in 0.75 h of runs; separate runs would have "
        "used about 16.0 G FLOPs: 12.5 % saved."
    )
    assert str(total_of(named(runs))).endswith("as separate runs would have used.")
