"""Where on a ranking's path the budget is kept: by arithmetic where possible, else by measuring.

A path is the list of networks that one ranking passes through, from dense to smallest. Counted
costs are known for each of them beforehand. What only a device can tell (latency, energy) is
measured on whole deployed networks, as sums over layers miss by several percent: measure, correct
the estimate by what was measured, propose again.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lightning_cost.cost.resource import Resource

LARGEST_NUM_MEASUREMENTS = 10
MARGIN = 0.02
"""Share of a measured limit that is kept free, for the noise of the next measurement."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """The network on a path that keeps a budget.

    Args:
        position: Index into the path.
        fill: The tightest measured limit's cost / limit there; ``None`` if nothing was measured.
        num_measurements: Networks that were deployed and measured to find it.
    """

    position: int
    fill: float | None
    num_measurements: int


def largest_within(
    sizes: Sequence[float],
    first: int,
    measure: Callable[[int], Mapping[Resource, float]],
    limits: Mapping[Resource, float],
    *,
    margin: float = MARGIN,
    tolerance: float = 0.03,
) -> Target | None:
    """The largest network from ``first`` on whose measured cost keeps ``limits``.

    Args:
        sizes: A counted cost (MACs) of each network on the path, falling; it guides proposals.
        first: The largest network that the counted limits allow.
        measure: Deploys the network at a position and measures it, in the units of ``limits``.
        limits: Limits on measured resources; empty if all limits are counted ones.
        margin: Share of each limit that is kept free, for the noise of the next measurement.
        tolerance: The search ends when the fill is within this share below ``1 - margin``.

    Returns:
        The target, or ``None`` if even the last network of the path is over a limit.
    """
    if not limits:
        return Target(position=first, fill=None, num_measurements=0)
    fills: dict[int, float] = {}

    def fill_at(position: int) -> float:
        cost = measure(position)
        fills[position] = max(cost[resource] / limit for resource, limit in limits.items())
        return fills[position]

    goal = 1 - margin
    over, within = first, len(sizes) - 1
    if fill_at(over) <= goal:
        return Target(position=over, fill=fills[over], num_measurements=len(fills))
    if within == over or fill_at(within) > goal:
        return None
    while within - over > 1 and len(fills) < LARGEST_NUM_MEASUREMENTS:
        if fills[within] >= goal - tolerance:
            break
        guess = _proposal(sizes, fills, over, within, goal - tolerance / 2)
        if fill_at(guess) <= goal:
            within = guess
        else:
            over = guess
    return Target(position=within, fill=fills[within], num_measurements=len(fills))


def _proposal(
    sizes: Sequence[float], fills: Mapping[int, float], over: int, within: int, goal: float
) -> int:
    """The position between two measured ones where a power law through them meets ``goal``."""
    rise = math.log(fills[over] / fills[within])
    share = math.log(goal / fills[within]) / rise if rise > 0 else 0.5
    share = min(max(share, 0.1), 0.9)
    wanted = sizes[within] * (sizes[over] / sizes[within]) ** share
    between = range(over + 1, within)
    return min(between, key=lambda position: abs(math.log(sizes[position] / wanted)))
