"""The other optimizer on fitness functions whose optimum is known."""

import builtins
import math
from itertools import islice

import pytest
import torch

from lightning_cost.pruning.search.candidate import Candidate
from lightning_cost.pruning.search.covariance import RankingCovariance
from lightning_cost.pruning.search.evolution import EvolutionSearch

pytest.importorskip("cmaes")
BASES = {
    name: {group: torch.rand(8, generator=torch.Generator().manual_seed(place)) for group in "ab"}
    for place, name in enumerate(("l2", "normalised"))
}
OPTIMUM = (1.5, 0.5)


def _distance(candidate):
    scales = (abs(math.log(a / b)) for a, b in zip(candidate.alpha, OPTIMUM, strict=True))
    return sum(scales) + sum(map(abs, candidate.kappa)) + (candidate.base != "normalised")


def _search(seed=0, outcome=None, **settings):
    generator = torch.Generator().manual_seed(seed)
    return RankingCovariance(EvolutionSearch(**settings), BASES, generator, outcome)


def _run(search, fitness=_distance, at_once=1):
    asked = []
    while batch := list(islice(iter(search.ask, None), at_once)):
        asked += batch
        for candidate in batch:
            search.tell(candidate, fitness(candidate))
    return asked


def test_it_starts_at_the_best_plain_ranking_and_comes_near_the_optimum():
    search = _search(num_candidates=300)
    asked = _run(search)
    assert asked[:2] == [Candidate.identity(base, 2) for base in BASES]
    assert {candidate.base for candidate in asked[2:]} == {"normalised"}
    assert search.ledger.best[1] < 0.05 * _distance(Candidate.identity("normalised", 2))
    assert len(asked) == search.ledger.num_told == 300


def test_a_seed_repeats_it_whatever_is_asked_at_once():
    whole = _run(_search(seed=3, num_candidates=60))
    assert whole == _run(_search(seed=3, num_candidates=60), at_once=4)
    assert whole[2:] != _run(_search(seed=4, num_candidates=60))[2:]


@pytest.mark.parametrize("fitness", [float("nan"), float("inf"), 1.0])
def test_it_ends_on_a_fitness_that_says_nothing(fitness):
    search = _search(num_candidates=40)
    assert len(_run(search, lambda candidate: fitness, at_once=3)) == 40


def test_it_ends_when_nothing_new_is_made():
    search = _search(num_candidates=40, outcome=lambda candidate: candidate.alpha[0] > 1)
    assert len(_run(search)) == 2


def test_it_begins_anew_when_it_has_converged(monkeypatch):
    search = _search(num_candidates=40)
    _run(search)
    monkeypatch.setattr(type(search._cma), "should_stop", lambda cma: True)
    search = _search(num_candidates=40)
    asked = _run(search)
    assert len(asked) == 40
    assert search._cma is None or search._cma.generation == 0


def test_without_the_package_it_is_refused(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "cmaes":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match=r"pip install 'lightning-cost\[cmaes\]'"):
        _search()
