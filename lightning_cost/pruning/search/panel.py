"""Candidates of a ranking search before the judges, no network twice."""

import math
from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from lightning_cost.cost.plain_data import amount, flag, text
from lightning_cost.cost.resource import Resource
from lightning_cost.pruning.saliency import Saliency
from lightning_cost.pruning.search.candidate import Candidate
from lightning_cost.pruning.search.evolution import EvolutionSearch
from lightning_cost.pruning.search.fitness import Judgement
from lightning_cost.pruning.search.judges import Judges, Task
from lightning_cost.pruning.search.memory import SearchMemory
from lightning_cost.pruning.structure.plan import Plan
from lightning_cost.pruning.target.problem import PruningProblem

LEAST_ALIVE = 6
"""Candidates that must be alive before another one can be called a bad one."""
WORST_ALIVE = 0.75
"""The best share of those alive, the worst of which sets the limit. A tournament of six draws none
but the others in one case of 4,000: what is rejected would hardly have had offspring."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One candidate of a search.

    Args:
        base: The saliency that it transforms.
        is_plain: Whether it is that saliency as it stands.
        loss: What it was judged at.
        best: The lowest loss so far.
        flops: What judging all candidates so far takes.
        is_rejected: Whether it was given up after the first glance.
    """

    base: str
    is_plain: bool
    loss: float
    best: float
    flops: float
    is_rejected: bool

    def __post_init__(self) -> None:
        text(self.base, "base")
        for name in ("loss", "best"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):  # infinite too
                raise ValueError(f"{name} must be a number, got {value!r:.60}")
        amount(self.flops, "flops")
        flag(self.is_plain, "is_plain")
        flag(self.is_rejected, "is_rejected")


class CandidatePlans:
    """The networks that candidates make, the smallest first.

    Args:
        problem: What is pruned.
        bases: Saliencies by name.
        floors: The fewest channels that each group keeps.
        ratios: The shares of the dense MACs to cut down to.
        limits: What else each of them must keep.
    """

    def __init__(
        self,
        problem: PruningProblem,
        bases: Mapping[str, Saliency],
        floors: Mapping[str, int],
        ratios: Sequence[float],
        limits: Mapping[Resource, float] | None = None,
    ) -> None:
        self._problem, self._bases, self._floors = problem, bases, floors
        self._ratios = sorted(ratios)
        self._limits = dict(limits or {})
        self._cached = lru_cache(maxsize=64)(self._of)

    def of(self, candidate: Candidate) -> tuple[Plan, ...]:
        """One plan for each ratio."""
        return self._cached(candidate)

    def outcome(self, candidate: Candidate) -> Hashable:
        """What is the same for candidates that make the same networks."""
        return tuple(map(key_of, self.of(candidate)))

    def flops(self, plan: Plan) -> float:
        """FLOPs of a forward pass of what ``plan`` keeps."""
        return self._problem.pricer.price_plan(plan)[Resource.flops]

    def _of(self, candidate: Candidate) -> tuple[Plan, ...]:
        problem = self._problem
        path = candidate.ranking(self._bases).path(self._floors, problem.steps)
        macs = problem.macs_along(path)
        limits = (self._limits | {Resource.macs: ratio * macs[0]} for ratio in self._ratios)
        positions = (path.first_within(problem.pricer, limit) for limit in limits)
        return tuple(path.plan_at(len(path) - 1 if p is None else p) for p in positions)


def key_of(plan: Plan) -> Hashable:
    """What a plan keeps."""
    return tuple(plan.kept.items())


class Panel:
    """Has candidates judged, and writes down what came of it.

    A candidate is judged by its mean loss over its networks. One whose smallest network is, at the
    first glance, worse than three quarters of the candidates alive is rejected, with the loss of
    that glance; plain rankings are not.

    Args:
        settings: How many candidates are alive, and whether any is rejected.
        plans: The networks that candidates make.
        judges: Judge these.
        memory: Is asked before.

    Attributes:
        new_flops: What was computed, what ``memory`` knew left out.
        num_recalled: Candidates that ``memory`` knew.
        trials: All candidates so far.
    """

    def __init__(
        self,
        settings: EvolutionSearch,
        plans: CandidatePlans,
        judges: Judges,
        memory: SearchMemory,
    ) -> None:
        self._plans, self._judges, self._memory = plans, judges, memory
        self._known: dict[Hashable, Judgement] = {}
        self._glances: deque[float] = deque(maxlen=settings.population_size)
        self._may_reject = settings.glance_ratio > 0
        self._flops = 0.0
        self._best = math.inf
        self.new_flops = 0.0
        self.num_recalled = 0
        self.trials: list[Trial] = []

    def spend(self, flops: float) -> None:
        """Count what was computed beside judging."""
        self._flops += flops
        self.new_flops += flops

    def judge(self, candidates: Sequence[Candidate]) -> list[Trial]:
        """What each of the candidates is judged at, in order."""
        limit = self._limit()
        tasks = [self._task(candidate, limit) for candidate in candidates]
        found = [self._memory.recall(task) if task.plans else [] for task in tasks]
        self.num_recalled += sum(bool(each) for each in found)
        new = [task for task, each in zip(tasks, found, strict=True) if each is None]
        if new:
            judgements = self._judges.judge(new)
            self._memory.add(new, judgements)
            self.new_flops += sum(each.flops for part in judgements for each in part)
            rest = iter(judgements)
            found = [next(rest) if each is None else each for each in found]
        trials = [
            self._trial(candidate, task, each or [])
            for candidate, task, each in zip(candidates, tasks, found, strict=True)
        ]
        self.trials += trials
        return trials

    def _limit(self) -> float:
        """What a first glance must not be worse than."""
        if not self._may_reject or len(self._glances) < LEAST_ALIVE:
            return math.inf
        return sorted(self._glances)[math.ceil(WORST_ALIVE * len(self._glances)) - 1]

    def _task(self, candidate: Candidate, limit: float) -> Task:
        """The networks of a candidate that were not judged yet."""
        limits: dict[Hashable, tuple[Plan, float]] = {}
        for place, plan in enumerate(self._plans.of(candidate)):
            if key_of(plan) not in self._known and key_of(plan) not in limits:
                may_reject = place == 0 and not candidate.is_plain
                limits[key_of(plan)] = (plan, limit if may_reject else math.inf)
        plans = tuple(plan for plan, _ in limits.values())
        return Task(
            plans=plans,
            flops_per_sample=tuple(map(self._plans.flops, plans)),
            limits=tuple(limit for _, limit in limits.values()),
        )

    def _trial(self, candidate: Candidate, task: Task, found: Sequence[Judgement]) -> Trial:
        self._flops += sum(each.flops for each in found)
        is_rejected = any(each.is_rejected for each in found)
        if is_rejected:
            loss = found[-1].loss
            self._glances.append(loss)
        else:
            self._known |= {
                key_of(plan): each for plan, each in zip(task.plans, found, strict=True)
            }
            judgements = [self._known[key_of(plan)] for plan in self._plans.of(candidate)]
            self._glances.append(judgements[0].glance)
            loss = sum(each.loss for each in judgements) / len(judgements)
            self._best = min(self._best, loss)
        return Trial(
            base=candidate.base,
            is_plain=candidate.is_plain,
            loss=loss,
            best=self._best,
            flops=self._flops,
            is_rejected=is_rejected,
        )
