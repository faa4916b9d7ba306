"""The search for the ranking: candidates are cut, put in order and judged; the best one wins."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import torch
from torch import nn
from tqdm.auto import tqdm

from lightning_cost.network.batch import first_samples
from lightning_cost.pruning.batches import BatchLoss, SearchData
from lightning_cost.pruning.ranking import GlobalRanking
from lightning_cost.pruning.reconstruction.least_squares import NUM_SAMPLES, Reconstruction
from lightning_cost.pruning.saliency import Saliency
from lightning_cost.pruning.search.bases import saliency_bases
from lightning_cost.pruning.search.candidate import Candidate
from lightning_cost.pruning.search.covariance import RankingCovariance
from lightning_cost.pruning.search.evolution import EvolutionSearch, RankingEvolution
from lightning_cost.pruning.search.fitness import CutJudge, Judge
from lightning_cost.pruning.search.judges import Judges
from lightning_cost.pruning.search.ledger import RankingOptimizer
from lightning_cost.pruning.search.memory import SearchMemory, fingerprint
from lightning_cost.pruning.search.panel import CandidatePlans, Panel, Trial
from lightning_cost.pruning.structure.grouping import Grouping
from lightning_cost.pruning.target.problem import PruningProblem

HARDEST_JUDGED_RATIO = 0.5
"""Below this share of the MACs a network without training is near chance and tells nothing."""
_OPTIMIZERS: Mapping[str, Callable[..., RankingOptimizer]] = {
    "evolution": RankingEvolution,
    "cmaes": RankingCovariance,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnedRanking:
    """The winner of a search.

    Args:
        ranking: Its ranking.
        fitness: Its mean loss over the judged cuts; lower is better.
        plain: The same of the plain rankings, by name.
        flops: What the search computed; nothing for what it remembered.
        num_recalled: Candidates that it remembered.
        trials: All candidates, in order.
    """

    ranking: GlobalRanking
    fitness: float
    plain: Mapping[str, float]
    flops: float
    num_recalled: int
    trials: tuple[Trial, ...]


def learn_ranking(
    problem: PruningProblem,
    settings: EvolutionSearch,
    *,
    data: SearchData,
    loss: BatchLoss,
    generator: torch.Generator,
    may_go_on: Callable[[float], bool] = lambda flops: True,
    judges: Judges | None = None,
    memory: SearchMemory | None = None,
) -> LearnedRanking:
    """Learn one ranking of all channels of ``problem.network``.

    Candidates start from saliencies that can be compared between groups: ranks within the group
    (uniform width), scores divided by their group's mean, and the raw scores, which are LeGR's
    identity. Each is judged by its loss right after the cut to the target, its layers fitted anew;
    without that, by its loss after milder cuts on the way there.

    Args:
        problem: What is pruned, and the limits.
        settings: How long to search.
        data: What candidates are judged on.
        loss: Mean loss of a network on a batch.
        generator: Of the candidates.
        may_go_on: Told after each few candidates what FLOPs the search has used; says whether to
            judge more.
        judges: Judge on all ranks; by default on this one alone, by :func:`usual_judge`.
        memory: Knows what an earlier search has judged.

    Returns:
        The fittest ranking; never worse on ``data.search`` than the best plain one. It depends on
        what is passed, and neither on the ranks nor on what ``memory`` knows.

    Raises:
        ValueError: If no candidate has a finite loss; if a group has nothing that one of the
            saliencies scores.
    """
    memory = memory or SearchMemory()
    if judges is None:
        judges = Judges()
        usual = usual_judge(problem.network, problem.grouping, data, loss, settings)
        judges.appoint(lambda _: usual, None)
    bases, flops = saliency_bases(problem, settings, data, loss)
    plans = _plans(problem, bases, settings)
    optimizer = _OPTIMIZERS[settings.optimizer](settings, bases, generator, plans.outcome)
    panel = Panel(settings, plans, judges, memory)
    panel.spend(flops)
    with tqdm(total=settings.num_candidates, desc="ranking search", leave=False) as progress:
        while batch := _asked(optimizer, settings.num_parallel):
            for candidate, trial in zip(batch, panel.judge(batch), strict=True):
                optimizer.tell(candidate, trial.loss, is_rejected=trial.is_rejected)
            progress.update(len(batch))
            progress.set_postfix(best=f"{optimizer.ledger.best[1]:.4f}")
            if not may_go_on(panel.new_flops):
                break
    best, fitness = optimizer.ledger.best
    if not math.isfinite(fitness):
        raise ValueError(
            f"loss must be finite for one candidate or more, got none in {len(panel.trials)}; "
            "look at the loss of the dense network on the data to search on"
        )
    return LearnedRanking(
        ranking=best.ranking(bases),
        fitness=fitness,
        plain=optimizer.ledger.plain,
        flops=panel.new_flops,
        num_recalled=panel.num_recalled,
        trials=tuple(panel.trials),
    )


def _plans(
    problem: PruningProblem, bases: Mapping[str, Saliency], settings: EvolutionSearch
) -> CandidatePlans:
    """The networks of candidates: at the target, or milder ones where layers are not fitted."""
    floors = problem.floors()
    if not settings.reconstruct:
        ratios = judged_ratios(problem.uniform_macs_ratio())
        return CandidatePlans(problem, bases, floors, ratios)
    ratios = [problem.macs_ratio()]
    return CandidatePlans(problem, bases, floors, ratios, problem.limits_beside_macs)


def judged_ratios(target: float) -> list[float]:
    """The shares of the dense MACs at which candidates are judged that are not reconstructed.

    >>> judged_ratios(0.25), judged_ratios(0.8)
    ([0.75, 0.5], [0.9, 0.8])
    """
    hardest = max(target, HARDEST_JUDGED_RATIO)
    return [(1 + hardest) / 2, hardest]


def usual_judge(
    network: nn.Module,
    grouping: Grouping,
    data: SearchData,
    loss: BatchLoss,
    settings: EvolutionSearch,
    *,
    finish: Callable[[nn.Module], nn.Module] | None = None,
) -> Judge:
    """The judge that ``settings`` describe; each rank makes its own. See :class:`CutJudge`."""
    reconstruction = None
    if settings.reconstruct:
        batch = first_samples(data.calibration, NUM_SAMPLES)
        reconstruction = Reconstruction(network, batch, loss)
    return CutJudge(
        network,
        grouping,
        data,
        loss,
        reconstruction=reconstruction,
        tune_steps=settings.tune_steps,
        glance_ratio=settings.glance_ratio,
        finish=finish,
    )


def search_fingerprint(
    problem: PruningProblem,
    settings: EvolutionSearch,
    *,
    data: SearchData,
    loss: BatchLoss,
    generator: torch.Generator,
) -> str:
    """What says that two searches are the same: of the arguments of :func:`learn_ranking`."""
    return fingerprint(
        list(problem.network.state_dict()),
        problem.network.state_dict(),
        problem.grouping.to_dict(),
        asdict(settings),
        [getattr(loss, "__module__", ""), getattr(loss, "__qualname__", "")],
        problem.search_key(),
        *sorted((resource.value, limit) for resource, limit in problem.limits_beside_macs.items()),
        problem.steps,
        generator.get_state(),
        [data.calibration, data.search],
    )


def _asked(optimizer: RankingOptimizer, at_most: int) -> list[Candidate]:
    """The next candidates, as many as there are before these are told of."""
    batch: list[Candidate] = []
    while len(batch) < at_most and (candidate := optimizer.ask()) is not None:
        batch.append(candidate)
    return batch
