"""What is written down of candidates."""

import math

from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.pruning.search.candidate import Candidate
from lightning_cost.pruning.search.ledger import Ledger


def _candidate(scale):
    return Candidate(base="l2", alpha=(float(scale),), kappa=(0.0,))


@given(st.lists(st.tuples(st.integers(2, 9), st.floats(allow_nan=True), st.booleans())))
def test_the_best_is_the_first_of_the_lowest_that_were_not_rejected(told):
    ledger = Ledger(["l2"], 1)
    for scale, fitness, is_rejected in told:
        ledger.tell(ledger.ask(_candidate(scale)), fitness, is_rejected=is_rejected)
    kept = [
        (_candidate(scale), math.inf if math.isnan(fitness) else fitness)
        for scale, fitness, is_rejected in told
        if not is_rejected
    ]
    if kept:
        assert ledger.best == min(kept, key=lambda entry: entry[1])
    assert ledger.num_told == ledger.num_asked == len(told)


def test_what_is_given_out_is_not_new_but_not_known_either():
    ledger = Ledger(["l2", "l1"], 1, outcome=lambda candidate: candidate.alpha)
    plain = ledger.ask(ledger.next_plain())
    assert ledger.next_plain() is None, "the other one makes the same"
    assert not ledger.is_new(plain)
    assert ledger.fitness_of(plain) is None
    assert ledger.plain == {}
    ledger.tell(plain, 1.0)
    assert ledger.plain == {"l2": 1.0, "l1": 1.0}
    assert ledger.is_plain_told
    assert ledger.is_new(_candidate(3))
