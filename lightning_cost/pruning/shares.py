"""How a budget is shared between the channels that stay and the bits that they are stored in."""

import math
from collections.abc import Callable
from typing import Any

from torch import nn

from lightning_cost.cost.resource import Resource
from lightning_cost.network.participants import SharesBudget
from lightning_cost.pruning.batches import BatchLoss, SearchData
from lightning_cost.pruning.ranking import GlobalRanking
from lightning_cost.pruning.saliency import group_saliency, quantiles
from lightning_cost.pruning.search.evolution import EvolutionSearch
from lightning_cost.pruning.search.loop import usual_judge
from lightning_cost.pruning.structure.plan import Plan
from lightning_cost.pruning.target.problem import PruningProblem


def share_out(
    sharing: SharesBudget,
    make_problem: Callable[[], PruningProblem],
    make_data: Callable[[], SearchData],
    *,
    loss: BatchLoss,
    settings: EvolutionSearch,
    ranking: GlobalRanking | None = None,
) -> tuple[list[dict[str, Any]], float]:
    """Settle on the split of the budget whose network has the least loss before any recovery.

    For each split channels are removed until the budget is kept, by ``ranking`` or else the
    smallest of every layer alike, the cut is put in order and judged as candidates of the search
    are, with its weights rounded as the split says.

    Args:
        sharing: Offers the splits, and is settled in place on the best one; on none where none
            keeps the budget.
        make_problem: What is pruned, with the split that ``sharing`` is settled on at that moment.
        make_data: What networks are judged on.
        loss: Of a network on a batch.
        settings: How candidates are judged.
        ranking: Of all channels.

    Returns:
        One record for each split, with the loss ``None`` where it cannot keep the budget, and the
        FLOPs that it took.
    """
    sharing.settle(None)
    first = make_problem()
    network, example = first.network, first.example
    data = make_data()
    splits = sharing.splits(network, example, lambda each: loss(each, data.calibration[0]))
    records: list[dict[str, Any]] = []
    flops = 0.0
    for split in splits:
        sharing.settle(split)
        problem = make_problem()
        plan = _plan_within(problem, ranking)
        record = sharing.described(split) | {"loss": None}
        if plan is not None:
            rounded = _Rounded(sharing, example, split)
            judge = usual_judge(network, problem.grouping, data, loss, settings, finish=rounded)
            counted = problem.pricer.price_plan(plan)
            found = judge(plan, flops_per_sample=counted[Resource.flops], limit=math.inf)
            flops += found.flops
            record |= {
                "keep_ratio": plan.keep_ratio,
                "macs": counted[Resource.macs],
                "loss": found.loss if math.isfinite(found.loss) else None,
            }
        records.append(record)
    judged = [place for place, record in enumerate(records) if record["loss"] is not None]
    best = min(judged, key=lambda place: records[place]["loss"], default=None)
    sharing.settle(None if best is None else splits[best])
    return [{**record, "is_chosen": place == best} for place, record in enumerate(records)], flops


class _Rounded:
    """Rounds a candidate's weights as a split says."""

    def __init__(self, sharing: SharesBudget, example: Any, split: Any) -> None:
        self._sharing, self._example, self._split = sharing, example, split

    def __call__(self, candidate: nn.Module) -> nn.Module:
        return self._sharing.rounded(candidate, self._example, self._split)


def _plan_within(problem: PruningProblem, ranking: GlobalRanking | None) -> Plan | None:
    if ranking is None:
        scores = quantiles(group_saliency(problem.network, problem.grouping, "l2", "sum"))
        ranking = GlobalRanking.transformed(scores)
    for floors in (problem.floors(), problem.lowest_floors()):
        path = problem.path_to_target(ranking.path(floors, problem.steps))
        if path is not None:
            return path.plan_at(len(path) - 1)
    return None
