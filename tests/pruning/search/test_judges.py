"""Ranks that are threads divide tasks, and fail together."""

import threading
from functools import partial

import pytest

from lightning_cost.pruning.search.fitness import Judgement
from lightning_cost.pruning.search.judges import Judges, Task
from lightning_cost.pruning.structure.plan import Plan

TIMEOUT_S = 20


class ThreadRanks:
    """Ranks of one process; a rank that waits for one that never comes fails in the end."""

    def __init__(self, rank, num_ranks, shared):
        self.rank, self.num_ranks, self._shared = rank, num_ranks, shared
        self.is_first = rank == 0

    @classmethod
    def group(cls, num_ranks):
        shared = {"barrier": threading.Barrier(num_ranks, timeout=TIMEOUT_S)}
        return [cls(rank, num_ranks, shared) for rank in range(num_ranks)]

    def gather(self, value):
        self._shared[self.rank] = value
        self._shared["barrier"].wait()
        values = [self._shared[rank] for rank in range(self.num_ranks)]
        self._shared["barrier"].wait()
        return values

    def broadcast(self, value):
        return self.gather(value)[0]


def task(*numbers, limits=None):
    plans = tuple(Plan(kept={"a": tuple(range(n))}, num_channels={"a": 99}) for n in numbers)
    limits = limits or (float("inf"),) * len(plans)
    return Task(plans=plans, flops_per_sample=(1.0,) * len(plans), limits=limits)


def judge_on(rank, seen, fails_on=None):
    def judge(plan, *, flops_per_sample, limit):
        width = plan.widths["a"]
        seen.setdefault(rank, []).append(width)
        if rank == fails_on:
            raise KeyError("no such width")
        return Judgement(loss=width, glance=width, flops=1.0, is_rejected=width > limit)

    return judge


def together(num_ranks, work, fails_on=None, fails_to_appoint=None):
    """What rank 0 gets of ``work(judges)``, what each rank judged, and how the others ended."""
    seen, ended = {}, {}

    def make_judge(rank, given):
        assert given == "given"
        if rank == fails_to_appoint:
            raise OSError("no memory")
        return judge_on(rank, seen, fails_on)

    def serve(ranks):
        try:
            Judges(ranks).serve(partial(make_judge, ranks.rank))
            ended[ranks.rank] = "dismissed"
        except Exception as error:
            ended[ranks.rank] = str(error)

    first, *others = ThreadRanks.group(num_ranks)
    threads = [threading.Thread(target=serve, args=(ranks,)) for ranks in others]
    for thread in threads:
        thread.start()
    try:
        with Judges(first) as judges:
            judges.appoint(partial(make_judge, 0), "given")
            result = work(judges)
    except Exception as error:
        result = error
    finally:
        for thread in threads:
            thread.join(TIMEOUT_S)
    return result, seen, ended


@pytest.mark.parametrize("num_ranks", [1, 2, 3])
def test_the_ranks_divide_tasks_and_the_answers_come_in_order(num_ranks):
    def work(judges):
        return [judges.judge([task(n, n + 10) for n in range(1, 6)]), judges.judge([task(7)])]

    (first, second), seen, ended = together(num_ranks, work)
    assert [[each.loss for each in answer] for answer in first] == [
        [n, n + 10] for n in range(1, 6)
    ]
    assert second[0][0].loss == 7
    assert ended == dict.fromkeys(range(1, num_ranks), "dismissed")
    assert sorted(n for part in seen.values() for n in part) == sorted(
        [*range(1, 6), *range(11, 16), 7]
    )
    assert len(seen) == num_ranks


def test_after_a_rejection_the_candidates_other_networks_are_not_judged():
    ((found,),), seen, _ = together(1, lambda judges: [judges.judge([task(5, 6, limits=(4, 9))])])
    assert [each.is_rejected for each in found] == [True]
    assert seen == {0: [5]}


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_an_error_on_any_rank_ends_the_work_on_all(failing):
    error, _, ended = together(
        3, lambda judges: judges.judge([task(n) for n in (1, 2, 3)]), failing
    )
    assert "no such width" in str(error)
    assert isinstance(error, KeyError if failing == 0 else RuntimeError)
    if failing:
        assert str(error).startswith(f"judging failed on rank {failing}: Traceback")
    assert list(ended) == [1, 2] or list(ended) == [2, 1]
    assert all("the search failed on rank 0" in said for said in ended.values())


def test_a_judge_that_cannot_be_made_is_an_error_too():
    error, _, ended = together(2, lambda judges: None, fails_to_appoint=1)
    assert isinstance(error, RuntimeError)
    assert "judging failed on rank 1" in str(error)
    assert "no memory" in str(error)
    assert "the search failed on rank 0" in ended[1]


def test_an_error_that_is_told_otherwise_dismisses_quietly():
    def work(judges):
        raise ValueError("budget")

    error, _, ended = together(2, work)
    assert isinstance(error, ValueError)
    assert ended == {1: "dismissed"}
