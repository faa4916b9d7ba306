from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.monitor.rank_sum import RankSum

_steps = st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99), st.booleans()), max_size=20)


@given(steps=_steps)
def test_after_a_word_between_the_ranks_it_is_the_sum_of_both_whatever_each_did(steps):
    done = [0, 0]
    ranks = [RankSum(lambda rank=rank: done[rank]) for rank in range(2)]
    known = [0, 0]
    for rank in ranks:
        rank.num_alike = 2

    def sync():
        since = [done[rank] - known[rank] for rank in range(2)]
        known[:] = done
        for rank in ranks:
            rank.sync(lambda own: sum(since))

    for first, second, is_synced in steps:
        done[0] += first
        done[1] += second
        if is_synced:
            sync()
    assert ranks[0].total == sum(known) + 2 * (done[0] - known[0])
    sync()
    assert ranks[0].total == ranks[1].total == sum(done)


def test_it_goes_on_from_a_total():
    done = [5]
    total = RankSum(lambda: done[0])
    total.go_on_from(100)
    done[0] = 8
    assert total.total == 103
