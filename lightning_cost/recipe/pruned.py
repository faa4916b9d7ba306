"""Where a run cut its network, as plain data for the report."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pytorch_lightning as pl
from torch import Tensor, nn

from lightning_cost.cost.measurement import Cost
from lightning_cost.network.batch import first_samples
from lightning_cost.network.loader import first_epoch_batches
from lightning_cost.network.participants import StructuralCallback, callbacks_of, preview_of
from lightning_cost.pruning.callback import GlobalRankingPruning
from lightning_cost.pruning.ranking import GlobalRanking
from lightning_cost.pruning.reconstruction.least_squares import NUM_SAMPLES, Reconstruction
from lightning_cost.pruning.target.problem import PruningProblem
from lightning_cost.recipe.frontier import accuracy_judge, frontier


def pruning_record(
    trainer: pl.Trainer,
    dense: nn.Module,
    example: Tensor,
    *,
    dense_cost: Cost,
    metric: str,
    batches: Iterable[Any],
) -> dict[str, Any] | None:
    """What ``report.json`` says of the pruning: groups, their ranks, steps, search and frontier.

    Args:
        trainer: After the fit.
        dense: The network that it started from.
        example: A batch of one.
        dense_cost: Of ``dense``.
        metric: Name of the share of samples that are classified right.
        batches: Of validation data (inputs, labels), for the metric of the frontier.

    Returns:
        ``None`` if nothing was to be pruned, or the fit ended before there was a ranking. Where
        another run's search served this one, that run tells of the frontier.
    """
    callbacks = callbacks_of(trainer)
    pruning = next((entry for entry in callbacks if isinstance(entry, GlobalRankingPruning)), None)
    if pruning is None or pruning.planned is None:
        return None
    record = {**cuts_of(pruning, dense), "search": search_of(pruning), "frontier": []}
    if record["search"] and record["search"]["is_reused"]:
        return record
    others = [entry for entry in callbacks if isinstance(entry, StructuralCallback)]
    problem = PruningProblem.of(
        dense,
        example,
        rules=pruning.channels,
        limits={},
        preview=preview_of(others, example),
        hardware=pruning.hardware,
        dense_cost=dense_cost,
    )
    training: Any = trainer.train_dataloader
    settings = pruning.search
    calibration = first_epoch_batches(training, settings.calibration_samples)
    reconstruction = None
    if settings.reconstruct:
        batch = first_samples(calibration, NUM_SAMPLES)
        reconstruction = Reconstruction(dense, batch, pruning.loss)
    points = frontier(
        problem,
        pruning.planned.ranking,
        calibration=calibration,
        reconstruction=reconstruction,
        judge=accuracy_judge(metric, batches, settings.search_samples),
    )
    return record | {"frontier": [point.to_dict() for point in points]}


def search_of(pruning: GlobalRankingPruning) -> dict[str, Any] | None:
    """Every candidate of the search, what it took, and whether another run had done it.

    Args:
        pruning: After the fit.

    Returns:
        ``None`` if the ranking was given.
    """
    planned = pruning.planned
    if planned is None or not planned.trials:
        return None
    return {
        "is_reused": planned.is_reused,
        "flops": pruning.search_flops,
        "trials": planned.trials,
    }


def cuts_of(pruning: GlobalRankingPruning, dense: nn.Module) -> dict[str, Any]:
    """Groups in the order of the network, their channels' ranks, and what each step left.

    Args:
        pruning: After a fit in which it had a ranking.
        dense: The network that the fit started from.
    """
    planned = pruning.planned
    assert planned is not None
    places = {name: place for place, (name, _) in enumerate(dense.named_modules())}
    groups = sorted(
        planned.grouping.groups, key=lambda group: min(places[name] for name in group.producers)
    )
    ranks, widths, schedule = global_ranks(planned.ranking), pruning.widths, pruning.schedule
    return {
        "groups": [
            {
                "name": group.name,
                "layers": list(group.producers),
                "ranks": ranks[group.name],
                "kept": widths[group.name][1] if widths else group.num_channels,
            }
            for group in groups
        ],
        "left_alone": dict(planned.grouping.left_alone),
        "steps": [
            {
                "epoch": schedule.warmup_epochs + (number - 1) * schedule.epochs_per_step,
                "kept": [plan.widths[group.name] for group in groups],
                "is_made": number <= pruning.num_steps_made,
            }
            for number, plan in enumerate(planned.plans, start=1)
        ],
        "remarks": pruning.remarks,
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
