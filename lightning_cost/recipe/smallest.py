"""What the smallest network costs that compression could make of a dense one."""

from collections.abc import Mapping

from torch import Tensor, nn

from lightning_cost.cost.duplicate import duplicated
from lightning_cost.cost.measurement import Cost
from lightning_cost.cost.resource import Resource
from lightning_cost.monitor.measure import measure
from lightning_cost.network.participants import StructuralCallback, preview_of
from lightning_cost.pruning.callback import GlobalRankingPruning
from lightning_cost.pruning.target.problem import PruningProblem
from lightning_cost.recipe.callbacks import callbacks_for
from lightning_cost.recipe.config import RunConfig


def smallest_cost(
    config: RunConfig,
    network: nn.Module,
    example: Tensor,
    limits: Mapping[Resource, float],
    dense: Cost,
    *,
    may_measure: bool = False,
) -> Cost:
    """Cost of the most compressed network, on the limited resources.

    Where neither pruning nor quantisation is asked for, it is the dense network.

    Args:
        config: Says what compression may do.
        network: Dense; it is left as it was found.
        example: A batch of one.
        limits: On the deployed network.
        dense: Cost of ``network``.
        may_measure: Whether the network is built and timed, where the hardware is this machine;
            otherwise what needs that is left out.
    """
    known = {
        resource: limit
        for resource, limit in limits.items()
        if may_measure or resource.is_counted or not config.hardware.is_local
    }
    if not known:
        return {}
    callbacks = callbacks_for(config)
    pruning = [entry for entry in callbacks if isinstance(entry, GlobalRankingPruning)]
    rest = [entry for entry in callbacks if entry not in pruning]
    later = [entry for entry in rest if isinstance(entry, StructuralCallback)]
    preview = preview_of(later, example)
    if not config.compress.prune:
        made = preview(duplicated(network))
        return measure(made, example, hardware=config.hardware, resources=list(known))
    problem = PruningProblem.of(
        network,
        example,
        rules=config.compress.channels,
        limits=known,
        preview=preview,
        hardware=config.hardware,
        dense_cost=dense,
    )
    return problem.cost_of(problem.smallest())


def require_reachable(config: RunConfig, network: nn.Module, example: Tensor) -> None:
    """Refuse counted limits that no network keeps which ``config`` can lead to, where none is cut.

    Where channels go, pruning itself says so, of measured limits too.

    Raises:
        ValueError: Names each such resource, its limit and what the network will cost.
    """
    counted = [resource for resource in config.budget.resources if resource.is_counted]
    if config.compress.prune or not counted:
        return
    dense = measure(network, example, resources=counted)
    limits = config.budget.limits(dense, only=counted)
    reached = smallest_cost(config, network, example, limits, dense)
    over = [
        f"{resource} <= {limit:g} {resource.unit} (nearest reachable: "
        f"{reached[resource].value:g} {resource.unit})"
        for resource, limit in limits.items()
        if reached[resource].value > limit
    ]
    if over:
        raise ValueError(
            f"budget must be reachable without pruning, got {'; '.join(over)}; prune too, as with "
            "compress=prune_quantize, raise the limit, or start from a smaller network"
        )
