from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.report.study.history import best_so_far, history
from lightning_cost.report.study.record import Study, TrialRecord

TRIALS = st.lists(
    st.tuples(
        st.sampled_from(["finished", "finished", "infeasible", "failed"]),
        st.integers(0, 9),
        st.booleans(),
    ),
    max_size=12,
)


def study_of(rows, direction):
    trials = tuple(
        TrialRecord(
            number=number,
            state=state,
            values={"loss": value} if state == "finished" else {},
            violations={"macs": 0.1} if is_broken else {},
        )
        for number, (state, value, is_broken) in enumerate(rows)
    )
    return Study(name="sweep", objectives={"loss": direction}, trials=trials)


@given(TRIALS, st.sampled_from(["min", "max"]))
def test_the_best_is_that_of_all_kept_trials_up_to_there(rows, direction):
    found = best_so_far(study_of(rows, direction), "loss")
    kept = [
        at
        for at, (state, _, is_broken) in enumerate(rows)
        if (state, is_broken) == ("finished", False)
    ]
    pick = max if direction == "max" else min
    assert found == [(at, pick(rows[before][1] for before in kept if before <= at)) for at in kept]


@given(TRIALS)
def test_a_chart_is_drawn_where_something_was_kept(rows):
    study = study_of(rows, "min")
    assert (history(study) is None) == (not best_so_far(study, "loss"))
