"""The saliencies that candidates transform: each score in three forms."""

from typing import Literal, cast

from lightning_cost.cost.resource import Resource
from lightning_cost.network.batch import num_samples_of
from lightning_cost.pruning.batches import BatchLoss, SearchData
from lightning_cost.pruning.saliency import (
    Saliency,
    SaliencyKind,
    group_saliency,
    normalised,
    quantiles,
)
from lightning_cost.pruning.search.evolution import EvolutionSearch
from lightning_cost.pruning.search.fitness import FORWARD_PASSES_OF_A_STEP
from lightning_cost.pruning.structure.plan import Plan
from lightning_cost.pruning.target.problem import PruningProblem
from lightning_cost.pruning.taylor import weight_importance


def saliency_bases(
    problem: PruningProblem, settings: EvolutionSearch, data: SearchData, loss: BatchLoss
) -> tuple[dict[str, Saliency], float]:
    """The saliencies that candidates transform, by name, and the FLOPs of computing them.

    Raises:
        ValueError: If a group has nothing that one of them scores; names both.
    """
    network, grouping, flops, importance = problem.network, problem.grouping, 0.0, None
    if "taylor" in settings.saliencies:
        importance = weight_importance(network, data.calibration, loss)
        dense = problem.pricer.price_plan(Plan.dense(grouping))[Resource.flops]
        num_samples = sum(map(num_samples_of, data.calibration))
        flops = FORWARD_PASSES_OF_A_STEP * dense * num_samples
    bases: dict[str, Saliency] = {}
    for kind in settings.saliencies:
        try:
            scores = group_saliency(
                network,
                grouping,
                cast(SaliencyKind, kind),
                cast(Literal["sum", "mean"], settings.combine),
                importance=importance,
            )
        except ValueError as error:
            raise ValueError(f"{error}; saliencies are {', '.join(settings.saliencies)}") from error
        bases |= {
            f"uniform_{kind}": quantiles(scores),
            f"normalised_{kind}": normalised(scores),
            kind: scores,
        }
    return bases, flops
