"""Where a run cut its network, as plain data for the report."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from lightning_cost.pruning.callback import GlobalRankingPruning
from lightning_cost.pruning.ranking import GlobalRanking
from lightning_cost.recipe.frontier import FrontierPoint


def pruning_record(
    callback: GlobalRankingPruning, dense: nn.Module, frontier: Sequence[FrontierPoint] = ()
) -> dict[str, Any] | None:
    """What ``report.json`` says of the pruning: groups, their ranks, steps, search and frontier.

    Args:
        callback: After the fit.
        dense: The network that it started from.
        frontier: Networks along the ranking, where they were looked at.

    Returns:
        ``None`` if the fit ended before there was a ranking.
    """
    grouping, ranking = callback.grouping, callback.ranking
    if grouping is None or ranking is None:
        return None
    order = {name: place for place, (name, _) in enumerate(dense.named_modules())}
    groups = sorted(
        grouping.groups, key=lambda group: min(order.get(name, -1) for name in group.producers)
    )
    ranks, widths = global_ranks(ranking), callback.widths or {}
    schedule = callback.schedule
    return {
        "groups": [
            {
                "name": group.name,
                "layers": list(group.producers),
                "ranks": ranks[group.name],
                "kept": widths.get(group.name, (0, group.num_channels))[1],
            }
            for group in groups
        ],
        "left_alone": dict(grouping.left_alone),
        "steps": [
            {
                "epoch": schedule.warmup_epochs + (number - 1) * schedule.epochs_per_step,
                "kept": [plan.widths[group.name] for group in groups],
                "is_made": number <= callback.num_steps_made,
            }
            for number, plan in enumerate(callback.plans, start=1)
        ],
        "remarks": callback.remarks,
        "search": None,
        "frontier": [point.to_dict() for point in frontier],
    }


def global_ranks(ranking: GlobalRanking) -> Mapping[str, list[int]]:
    """The places of each group's channels in the order of all channels, ascending.

    >>> global_ranks(GlobalRanking(scores={"a": (3.0, 1.0), "b": (2.0,)}))
    {'a': [0, 2], 'b': [1]}
    """
    scores = [np.sort(np.asarray(scores)) for scores in ranking.scores.values()]
    owners = np.repeat(np.arange(len(scores)), [len(own) for own in scores])
    owners = owners[np.argsort(np.concatenate([*scores, []]), kind="stable")]
    return {
        name: np.flatnonzero(owners == place).tolist() for place, name in enumerate(ranking.scores)
    }
