"""Why a pruning step is better left out."""

from collections.abc import Callable, Mapping

from torch import nn

from lightning_cost.cost.measurement import Cost
from lightning_cost.cost.resource import Resource
from lightning_cost.pruning.structure.surgery import RemoveChannels, operated

NOTHING = "removes nothing: the network before it is as small already"


def objection_to(
    change: RemoveChannels,
    network: nn.Module,
    cost_of: Callable[[nn.Module], Cost],
    limits: Mapping[Resource, float],
    *,
    is_last: bool,
) -> str | None:
    """Why ``change`` should not be made, if it should not.

    A change is objected to if it removes nothing, or if it makes a measured resource that is
    limited surely worse. The last change is needed all the same where the network without it is
    over a limit.

    Args:
        change: The removal of one step.
        network: As it is before; left as it is.
        cost_of: Deploys a network and prices it on the limited resources.
        limits: Of the budget.
        is_last: Whether the budget is to be kept after this step.
    """
    if not change.kept:
        return NOTHING
    if all(resource.is_counted for resource in limits):
        return None
    before, after = cost_of(network), cost_of(operated(network, change))
    worse = [resource for resource in limits if is_surely_worse(before, after, resource)]
    is_needed = is_last and any(before[r].value > limit for r, limit in limits.items())
    if not worse or is_needed:
        return None
    changes = ", ".join(
        f"{r} from {before[r].value:.4g} to {after[r].value:.4g} {r.unit}" for r in worse
    )
    return f"is left out, for it would raise {changes}"


def is_surely_worse(before: Cost, after: Cost, resource: Resource) -> bool:
    """Whether ``after`` takes more of a measured resource, by more than the measuring is unsure of.

    The intervals in which the two medians lie at 95 % confidence must not touch.
    """
    if resource.is_counted:
        return False
    old, new = before[resource], after[resource]
    high = old.value if old.interval is None else old.interval[1]
    low = new.value if new.interval is None else new.interval[0]
    return low > high
