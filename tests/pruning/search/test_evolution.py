"""The search on fitness functions whose optimum is known."""

import math

import pytest
import torch

from lightning_cost.pruning.search.candidate import Candidate
from lightning_cost.pruning.search.evolution import EvolutionSearch, RankingEvolution

BASES = {
    name: {group: torch.rand(8, generator=torch.Generator().manual_seed(place)) for group in "abcd"}
    for place, name in enumerate(("l2", "normalised"))
}
OPTIMUM = (1.5, 0.5, 2.0, 1.0)


def _distance(candidate):
    return sum(abs(math.log(a / b)) for a, b in zip(candidate.alpha, OPTIMUM, strict=True)) + sum(
        map(abs, candidate.kappa)
    )


def _search(seed=0, outcome=None, **settings):
    generator = torch.Generator().manual_seed(seed)
    return RankingEvolution(EvolutionSearch(**settings), BASES, generator, outcome)


def _run(search, fitness=_distance, limit=10_000):
    asked = []
    while len(asked) < limit and (candidate := search.ask()) is not None:
        asked.append(candidate)
        search.tell(candidate, fitness(candidate))
    return asked


def test_plain_rankings_come_first_and_bound_the_winner():
    search = _search(num_candidates=30)
    asked = _run(search)
    assert asked[:2] == [Candidate.identity("l2", 4), Candidate.identity("normalised", 4)]
    assert not any(candidate.is_plain for candidate in asked[2:])
    assert set(search.ledger.plain) == {"l2", "normalised"}
    assert search.ledger.best[1] <= min(search.ledger.plain.values())
    assert search.ledger.best[1] == min(map(_distance, asked))


def test_a_plain_winner_stays_the_winner():
    search = _search(num_candidates=30)
    _run(search, lambda candidate: 0.0 if candidate == Candidate.identity("l2", 4) else 1.0)
    assert search.ledger.best == (Candidate.identity("l2", 4), 0.0)


def test_it_finds_more_than_random_mutations_of_the_start_do():
    settings = {"num_candidates": 300, "population_size": 20, "tournament_size": 5}
    evolved = [_run_best(seed, **settings) for seed in range(3)]
    drifting = [_run_best(seed, **settings | {"tournament_size": 1}) for seed in range(3)]
    assert sum(evolved) < 0.7 * sum(drifting)
    assert max(evolved) < 0.6 * _distance(Candidate.identity("l2", 4))


def _run_best(seed, **settings):
    search = _search(seed, **settings)
    _run(search)
    return search.ledger.best[1]


def test_candidates_differ_and_a_seed_repeats_them():
    first, second = (_run(_search(seed=3, num_candidates=40)) for _ in range(2))
    assert first == second
    assert len(set(first)) == 40
    assert first[2:] != _run(_search(seed=4, num_candidates=40))[2:]


def test_the_same_outcome_is_judged_once():
    def outcome(candidate):
        return candidate.base, candidate.alpha[0] > 1

    search = _search(num_candidates=40, outcome=outcome)
    asked = _run(search)
    assert len(asked) == len({outcome(candidate) for candidate in asked}) == 4
    assert search.ask() is None


def test_the_oldest_leaves_however_good_it_is():
    search = _search(num_candidates=200, population_size=5, mutation_ratio=1.0)
    _run(search, lambda candidate: 0.0 if candidate.is_plain else 1.0, limit=8)
    assert all(not candidate.is_plain for candidate, _ in search._population)


def test_nan_is_infinitely_bad():
    search = _search(num_candidates=3)
    _run(search, lambda candidate: float("nan") if candidate.base == "l2" else 1.0)
    assert search.ledger.best[1] == 1.0
    assert search.ledger.plain["l2"] == math.inf


def test_a_batch_holds_no_outcome_twice_and_waits_for_nothing_but_plain_ones():
    search = _search(num_candidates=30, outcome=lambda candidate: candidate.alpha[0] > 1)
    assert search.ask() == Candidate.identity("l2", 4)
    assert search.ask() is None, "the other plain ranking is the same, and no one is alive"
    search.tell(Candidate.identity("l2", 4), 1.0)
    offspring = search.ask()
    assert offspring.alpha[0] > 1
    assert search.ask() is None, "there are two outcomes, and both are given out"


def test_rejected_candidates_have_offspring_and_never_win():
    search = _search(num_candidates=4)
    for fitness, is_rejected in ((3.0, False), (2.0, False), (1.0, True)):
        search.tell(search.ask(), fitness, is_rejected=is_rejected)
    assert search.ledger.best[1] == 2.0
    assert min(fitness for _, fitness in search._population) == 1.0


def test_nothing_told_has_no_best():
    with pytest.raises(ValueError, match="best needs one candidate told of, got none"):
        _ = _search().ledger.best


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("num_candidates", 0, ">= 1"),
        ("population_size", 0, ">= 1"),
        ("tournament_size", 0, ">= 1"),
        ("search_samples", 0, ">= 1"),
        ("num_parallel", 0, ">= 1"),
        ("tune_steps", -1, ">= 0"),
        ("glance_ratio", 1.0, r"lie in \[0, 1\)"),
        ("mutation_ratio", 0.0, r"lie in \(0, 1\]"),
        ("initial_noise", 0.0, "> 0"),
    ],
)
def test_settings_out_of_range_are_refused(name, value, rule):
    with pytest.raises(ValueError, match=f"{name} must (be )?{rule}, got {value}"):
        EvolutionSearch(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("optimizer", "adam", "optimizer must be of evolution, cmaes, got 'adam'"),
        ("combine", "max", "combine must be of sum, mean, got 'max'"),
        ("saliencies", ["l2", "l7"], "saliencies must be of l2, l1, .* got 'l7'"),
        ("saliencies", [], r"saliencies must name one or more, each once, got \[\]"),
        ("saliencies", ["l2", "l2"], r"each once, got \['l2', 'l2'\]"),
    ],
)
def test_unknown_names_are_refused(name, value, message):
    with pytest.raises(ValueError, match=message):
        EvolutionSearch(**{name: value})
