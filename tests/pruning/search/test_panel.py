"""Who is rejected, and what is asked of the judges."""

import math

from lightning_cost.pruning.search.candidate import Candidate
from lightning_cost.pruning.search.evolution import EvolutionSearch
from lightning_cost.pruning.search.fitness import Judgement
from lightning_cost.pruning.search.memory import SearchMemory
from lightning_cost.pruning.search.panel import LEAST_ALIVE, WORST_ALIVE, Panel
from lightning_cost.pruning.structure.plan import Plan


class Plans:
    """Candidates make two networks: one of their scale, one of their shift."""

    def of(self, candidate):
        return tuple(
            Plan(kept={name: (int(value),)}, num_channels={name: 10**6})
            for name, value in (("a", candidate.alpha[0]), ("b", candidate.kappa[0]))
        )

    def flops(self, plan):
        return 1.0


class Judges:
    """Takes the number of the channel that stays for the loss."""

    def __init__(self):
        self.tasks = []

    def judge(self, tasks):
        self.tasks += tasks
        return [task.judged_by(self._one) for task in tasks]

    def _one(self, plan, *, flops_per_sample, limit):
        ((loss,),) = plan.kept.values()
        return Judgement(loss=loss, glance=loss, flops=1.0, is_rejected=loss > limit)


def candidate(scale, shift=0):
    return Candidate(base="l2", alpha=(float(scale),), kappa=(float(shift),))


def panel(judges, **settings):
    return Panel(EvolutionSearch(**settings), Plans(), judges, SearchMemory())


def test_one_worse_than_most_of_those_alive_is_rejected_unless_it_is_plain():
    judges = Judges()
    found = panel(judges, population_size=8)
    numbers = list(range(10, 10 + 2 * LEAST_ALIVE))
    for number in numbers:
        found.judge([candidate(number)])
        limit = judges.tasks[-1].limits[0]
        alive = numbers[: numbers.index(number)][-8:]
        if len(alive) < LEAST_ALIVE:
            assert limit == math.inf
        else:
            assert limit == sorted(alive)[math.ceil(WORST_ALIVE * len(alive)) - 1]
    rejected = [trial for trial in found.trials if trial.is_rejected]
    assert rejected
    assert all(trial.loss > trial.best for trial in rejected)
    found.judge([candidate(1)])
    assert judges.tasks[-1].limits[0] == math.inf
    assert not panel(judges, glance_ratio=0.0).judge([candidate(99)])[0].is_rejected


def test_a_known_network_is_not_asked_for_again_and_a_rejected_one_is():
    judges = Judges()
    found = panel(judges)
    found.judge([candidate(10 + number) for number in range(LEAST_ALIVE)])
    assert len(judges.tasks[0].plans) == 2
    (trial,) = found.judge([candidate(10, 3)])
    assert [plan.widths for plan in judges.tasks[-1].plans] == [{"b": 1}]
    assert trial.loss == (10 + 3) / 2
    (trial,) = found.judge([candidate(10, 4)])
    assert trial.loss == 7
    asked = len(judges.tasks)
    (trial,) = found.judge([candidate(11, 4)])
    assert trial.loss == 7.5
    assert len(judges.tasks) == asked, "both of its networks are known"
    for _ in range(2):
        (trial,) = found.judge([candidate(999)])
        assert trial.is_rejected
        assert trial.loss == 999
    assert len(judges.tasks) == asked + 2


def test_flops_are_those_of_the_work_and_of_the_whole():
    judges, memory = Judges(), SearchMemory()
    first = Panel(EvolutionSearch(), Plans(), judges, memory)
    first.spend(5.0)
    first.judge([candidate(2, 3), candidate(4, 5)])
    assert first.new_flops == first.trials[-1].flops == 9.0
    again = Panel(EvolutionSearch(), Plans(), judges, memory)
    again.spend(5.0)
    again.judge([candidate(2, 3), candidate(4, 5)])
    assert again.new_flops == 5.0
    assert again.trials == first.trials
