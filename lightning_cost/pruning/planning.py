"""What is decided at the first pruning step of a fit: the ranking, and what every step leaves."""

import os
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from lightning_cost.cost.plain_data import entries, flag, items, text
from lightning_cost.network.participants import LimitsCompute, SharesBudget
from lightning_cost.network.ranks import OnFirstRank
from lightning_cost.pruning.batches import SearchData
from lightning_cost.pruning.ranking import GlobalRanking
from lightning_cost.pruning.schedule import PruningSchedule
from lightning_cost.pruning.search.memory import SearchMemory
from lightning_cost.pruning.search.panel import Trial
from lightning_cost.pruning.search.run import SearchRun, SharedSearch
from lightning_cost.pruning.shares import share_out
from lightning_cost.pruning.steps import step_plans
from lightning_cost.pruning.structure.grouping import Grouping
from lightning_cost.pruning.structure.plan import Plan
from lightning_cost.pruning.target.problem import PruningProblem

GIVEN = "no search: the ranking was given"


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """The decision, which turns to and from plain data.

    Args:
        ranking: Of all channels.
        grouping: Of the dense network.
        plans: What each step leaves.
        trials: The candidates that were judged for it, see ``Trial``; none where it was given.
        search_note: Where the ranking came from, if not from one search in one go.
        is_reused: Whether all candidates were judged by other runs.
        splits: The ways to share the budget with quantisation that were tried, see ``share_out``.
    """

    ranking: GlobalRanking
    grouping: Grouping
    plans: tuple[Plan, ...]
    trials: list[dict[str, Any]] = field(default_factory=list)
    search_note: str = ""
    is_reused: bool = False
    splits: list[dict[str, Any]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The decision as JSON-compatible data."""
        return {
            "ranking": self.ranking.to_dict(),
            "grouping": self.grouping.to_dict(),
            "plans": [plan.to_dict() for plan in self.plans],
            "trials": self.trials,
            "search_note": self.search_note,
            "is_reused": self.is_reused,
            "splits": self.splits,
        }

    def require_made_for(self, *, is_same_budget: bool, num_steps: int) -> None:
        """Refuse to go on with these plans under another budget or schedule.

        Raises:
            ValueError: If the limits or the number of steps are others.
        """
        is_same = {"limits": is_same_budget, "num_steps": len(self.plans) == num_steps}
        for name, same in is_same.items():
            if not same:
                raise ValueError(
                    f"{name} must be those that the checkpoint's pruning steps were planned for, "
                    "got others; resume with the same budget and schedule, or start a new run"
                )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Planned":
        """The inverse of :meth:`to_dict`.

        Raises:
            ValueError: If an entry is of another type than was written, or the parts are not of
                one network.
        """
        planned = cls(
            ranking=GlobalRanking.from_dict(data["ranking"]),
            grouping=Grouping.from_dict(data["grouping"]),
            plans=tuple(Plan.from_dict(plan) for plan in items(data["plans"], "plans")),
            trials=[asdict(Trial(**each)) for each in items(data["trials"], "trials")],
            search_note=text(data["search_note"], "search_note"),
            is_reused=flag(data["is_reused"], "is_reused"),
            splits=[dict(entries(each, "a split")) for each in items(data["splits"], "splits")],
        )
        num_channels = planned.grouping.num_channels
        for name, others in (
            ("ranking", [planned.ranking.num_channels]),
            ("plans", [plan.num_channels for plan in planned.plans]),
        ):
            if any(other != num_channels for other in others):
                raise ValueError(f"{name} must be of the groups of the network, got others")
        return planned


class Planner:
    """Makes the decision of a fit on rank 0, while the others judge candidates for it.

    Args:
        schedule: How far each step goes.
        run: The search, if there is to be one.
        ranking: One that is given: then nothing is searched.
        shared: Where other runs find what this one judged.
        callbacks: Of the Trainer; the budget is shared out with those that share it, and the
            search ends early where one that limits compute says so.
        spend: Told, again and again, what FLOPs the decision has used so far.

    Attributes:
        memory: What the search of this run alone has judged; ``None`` before it, on the other
            ranks, and where it belongs to other runs too.
    """

    def __init__(
        self,
        schedule: PruningSchedule,
        run: SearchRun,
        *,
        ranking: GlobalRanking | None = None,
        shared: SharedSearch | None = None,
        callbacks: Iterable[object] = (),
        spend: Callable[[float], None],
    ) -> None:
        self._schedule = schedule
        self._run = run
        self._ranking = ranking
        self._shared = shared
        given = list(callbacks)
        self._sharing = [e for e in given if isinstance(e, SharesBudget) and e.has_splits]
        self._limiting = [e for e in given if isinstance(e, LimitsCompute)]
        self._spend = spend
        self._flops = 0.0
        self.memory: SearchMemory | None = None

    def plan(
        self,
        network: nn.Module,
        make_problem: Callable[[], PruningProblem],
        *,
        data: Callable[[], SearchData],
        folders: Sequence[Path],
        on_first_rank: OnFirstRank,
    ) -> Planned:
        """Decide for all ranks, which all call this.

        Args:
            network: Dense.
            make_problem: What is pruned, and the limits, as the callbacks that share the budget
                are settled at that moment.
            data: What candidates are judged on.
            folders: Where the search may have left what it had judged, and where it will.
            on_first_rank: How ranks agree.

        Raises:
            ValueError: If no network along the ranking keeps the limits, see :func:`step_plans`;
                if the search finds none, see :func:`learn_ranking`.
        """

        def decide() -> tuple[dict[str, Any], float, list[Any]]:
            with self._run:
                decided = self._decided(make_problem, data, folders)
            return decided.to_dict(), self._flops, [entry.settled for entry in self._sharing]

        if not self._run.is_first:
            self._run.serve(network)
        found, flops, settled = on_first_rank(decide)
        self._note(flops)
        for entry, split in zip(self._sharing, settled, strict=True):
            entry.settle(split)
        return Planned.from_dict(found)

    def _decided(
        self,
        make_problem: Callable[[], PruningProblem],
        data: Callable[[], SearchData],
        folders: Sequence[Path],
    ) -> Planned:
        splits: list[dict[str, Any]] = []
        for entry in self._sharing:
            tried, flops = share_out(
                entry,
                make_problem,
                lambda: self._run.on_device(data()),
                loss=self._run.loss,
                settings=self._run.settings,
                ranking=self._ranking,
            )
            splits += tried
            self._note(self._flops + flops)
        problem = make_problem()
        if self._ranking is None:
            ranking, found = self._learned(problem, data(), folders)
        else:
            ranking, found = self._ranking, {"search_note": GIVEN}
        return Planned(
            ranking=ranking,
            grouping=problem.grouping,
            plans=tuple(step_plans(problem, ranking, self._schedule)),
            splits=splits,
            **found,
        )

    def _learned(
        self,
        problem: PruningProblem,
        data: SearchData,
        folders: Sequence[Path],
    ) -> tuple[GlobalRanking, dict[str, Any]]:
        """The ranking, and what :class:`Planned` tells of its search."""
        spent_before = self._flops

        def may_go_on(flops: float) -> bool:
            self._note(spent_before + flops)
            return all([entry.may_go_on() for entry in self._limiting])

        shared, shared_as = self._shared, None
        if shared is not None:
            # a run that goes on has the same folder, and so its name
            shared_as = os.path.relpath(folders[0], shared.folder) if folders else uuid.uuid4().hex
            folders = [Path(shared.folder)]
            if not shared.budget.is_empty:
                problem = replace(problem, limits=shared.budget.limits(problem.dense_cost))
        learned, memory = self._run.learn(
            problem, data, folders=folders, shared_as=shared_as, may_go_on=may_go_on
        )
        self.memory = memory if shared is None else None
        may_go_on(learned.flops)
        trials, note = [asdict(trial) for trial in learned.trials], ""
        if learned.num_recalled:
            note = f"{learned.num_recalled} of {len(trials)} candidates had been judged before: "
            note += str(memory.path)
        is_reused = shared is not None and not memory.has_own
        return learned.ranking, {"trials": trials, "search_note": note, "is_reused": is_reused}

    def _note(self, flops: float) -> None:
        self._flops = flops
        self._spend(flops)
