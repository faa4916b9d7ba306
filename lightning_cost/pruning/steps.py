"""The plans of all pruning steps, along one ranking, to the budget."""

from lightning_cost.pruning.ranking import GlobalRanking
from lightning_cost.pruning.schedule import PruningSchedule
from lightning_cost.pruning.structure.plan import Plan
from lightning_cost.pruning.target.path import RemovalPath
from lightning_cost.pruning.target.problem import PruningProblem


def step_plans(
    problem: PruningProblem,
    ranking: GlobalRanking,
    schedule: PruningSchedule,
) -> list[Plan]:
    """What stays after each step; each plan keeps part of what the one before it keeps.

    The last plan is the network on the ranking's path that keeps every limit and fills the
    tightest one. The steps before it divide the MACs between it and the dense network as the
    schedule says. Where the derived protection of narrow groups puts the budget out of reach, it is
    given up; a ``min_keep_ratio`` that was given is not.

    Raises:
        ValueError: If no network on the path keeps the limits.
    """
    for floors in (problem.floors(), problem.lowest_floors()):
        path = problem.path_to_target(ranking.path(floors, problem.steps))
        if path is not None:
            return _along(problem, path, schedule)
    raise ValueError(
        "budget must be reachable along the ranking, got no network on it that keeps "
        f"{', '.join(f'{r} <= {limit:g} {r.unit}' for r, limit in problem.limits.items())}; "
        "raise the limit, or lower channels.multiple"
    )


def _along(problem: PruningProblem, path: RemovalPath, schedule: PruningSchedule) -> list[Plan]:
    """The plans of all steps to the last network of ``path``, each smaller than the one before."""
    macs, last = problem.macs_along(path), len(path) - 1
    plans, place = [], 0
    for step in range(1, schedule.num_steps):
        wanted = macs[0] + schedule.fraction(step) * (macs[last] - macs[0])
        within = next((place for place in range(last) if macs[place] <= wanted), last)
        # every step has something to remove, and leaves something, while the path is long enough
        place = min(max(within, place + 1), max(last - (schedule.num_steps - step), 0))
        plans.append(path.plan_at(place))
    return [*plans, path.plan_at(last)]
