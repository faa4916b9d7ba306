"""The search for the ranking: candidates are cut, recalibrated and judged, the best one wins."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from tqdm.auto import tqdm

from lightning_cost.cost.measurement import Cost
from lightning_cost.cost.resource import Resource
from lightning_cost.network.batch import num_samples_of
from lightning_cost.pruning.batches import BatchLoss
from lightning_cost.pruning.candidate import Candidate
from lightning_cost.pruning.evolution import EvolutionSearch, RankingEvolution
from lightning_cost.pruning.fitness import candidate_loss
from lightning_cost.pruning.plan import Plan
from lightning_cost.pruning.problem import PruningProblem
from lightning_cost.pruning.ranking import GlobalRanking
from lightning_cost.pruning.saliency import Saliency, group_saliency, normalised, quantiles
from lightning_cost.pruning.surgery import removal

HARDEST_JUDGED_RATIO = 0.5
"""Below this share of the MACs a network without training is near chance and tells nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchData:
    """What candidates are judged on.

    Args:
        calibration: Training batches for batch-norm statistics.
        search: Batches for the loss; held out of training where possible.
    """

    calibration: list[Any]
    search: list[Any]

    @property
    def num_samples(self) -> int:
        """Samples that judging one network takes through it."""
        return sum(num_samples_of(batch) for batch in (*self.calibration, *self.search))


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnedRanking:
    """The winner of a search.

    Args:
        ranking: Its ranking.
        fitness: Its mean loss over the judged cuts; lower is better.
        plain: The same of the plain rankings, by name.
        flops: What the search computed.
    """

    ranking: GlobalRanking
    fitness: float
    plain: Mapping[str, float]
    flops: float


def learn_ranking(
    problem: PruningProblem,
    settings: EvolutionSearch,
    *,
    data: SearchData,
    loss: BatchLoss,
    dense_cost: Cost,
    generator: torch.Generator,
    may_go_on: Callable[[float], bool] = lambda flops: True,
) -> LearnedRanking:
    """Learn one ranking of all channels of ``problem.network``.

    Candidates start from saliencies that can be compared between groups: ranks within the group
    (uniform width), squared norms divided by their group's mean, and the raw squared norm, which
    is LeGR's identity. Each is judged by its loss after milder cuts than the target, along the
    path to it: near the target an untrained network says nothing.

    Args:
        problem: What is pruned, and the limits.
        settings: How long to search.
        data: What candidates are judged on.
        loss: Mean loss of a network on a batch.
        dense_cost: What percentages are of.
        generator: Of the candidates.
        may_go_on: Told after each candidate what FLOPs the search has used; says whether to judge
            another one.

    Returns:
        The fittest ranking; never worse on ``data.search`` than the best plain one.
    """
    bases = _bases(problem)
    floors = problem.floors(dense_cost)
    ratios = judged_ratios(problem.macs_ratio(dense_cost))
    judged: dict[Hashable, float] = {}
    flops = 0.0

    def plans_of(candidate: Candidate) -> list[Plan]:
        path = candidate.ranking(bases).path(floors, problem.rules.multiple)
        macs = problem.macs_along(path)
        limits = ({Resource.macs: ratio * macs[0]} for ratio in ratios)
        positions = (path.first_within(problem.pricer, limit) for limit in limits)
        return [path.plan_at(len(path) - 1 if p is None else p) for p in positions]

    def outcome(candidate: Candidate) -> Hashable:
        return tuple(_key(plan) for plan in plans_of(candidate))

    def loss_after(plan: Plan) -> float:
        nonlocal flops
        if _key(plan) not in judged:
            change = removal(problem.grouping, plan)
            judged[_key(plan)] = candidate_loss(
                problem.network, change, data.calibration, data.search, loss
            )
            flops += problem.pricer.price_plan(plan)[Resource.flops] * data.num_samples
        return judged[_key(plan)]

    evolution = RankingEvolution(settings, bases, generator, outcome)
    with tqdm(total=settings.num_candidates, desc="ranking search", leave=False) as progress:
        while (candidate := evolution.ask()) is not None:
            losses = [loss_after(plan) for plan in plans_of(candidate)]
            evolution.tell(candidate, sum(losses) / len(losses))
            progress.update()
            progress.set_postfix(best=f"{evolution.best[1]:.4f}")
            if not may_go_on(flops):
                break
    best, fitness = evolution.best
    return LearnedRanking(
        ranking=best.ranking(bases), fitness=fitness, plain=evolution.plain, flops=flops
    )


def judged_ratios(target: float) -> list[float]:
    """The shares of the dense MACs at which candidates are judged.

    >>> judged_ratios(0.25), judged_ratios(0.8)
    ([0.75, 0.5], [0.9, 0.8])
    """
    hardest = max(target, HARDEST_JUDGED_RATIO)
    return [(1 + hardest) / 2, hardest]


def _bases(problem: PruningProblem) -> dict[str, Saliency]:
    norms = group_saliency(problem.network, problem.grouping, "l2")
    return {"uniform": quantiles(norms), "l2_normalised": normalised(norms), "l2": norms}


def _key(plan: Plan) -> Hashable:
    return tuple(plan.kept.items())
