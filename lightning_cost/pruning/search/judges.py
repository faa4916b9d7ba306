"""Judging many candidates: the ranks of a fit divide them."""

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any

from lightning_cost.network.ranks import Ranks
from lightning_cost.pruning.search.fitness import Judge, Judgement
from lightning_cost.pruning.structure.plan import Plan

_NOTHING: tuple[str, Any] = ("", None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """The networks that one candidate makes, to be judged until one is rejected.

    Args:
        plans: What stays in each.
        flops_per_sample: Of a forward pass of each.
        limits: See :class:`Judge`.
    """

    plans: tuple[Plan, ...]
    flops_per_sample: tuple[float, ...]
    limits: tuple[float, ...]

    def is_judged_by(self, found: Sequence[Judgement]) -> bool:
        """Whether ``found`` may be what :meth:`judged_by` has returned."""
        return bool(found) and (
            len(found) == len(self.plans)
            or (len(found) < len(self.plans) and found[-1].is_rejected)
        )

    def judged_by(self, judge: Judge) -> list[Judgement]:
        """What ``judge`` says of each; a rejected one is the last."""
        found: list[Judgement] = []
        for plan, flops, limit in zip(self.plans, self.flops_per_sample, self.limits, strict=True):
            found.append(judge(plan, flops_per_sample=flops, limit=limit))
            if found[-1].is_rejected:
                break
        return found


class Judges:
    """One judge on each rank. Rank 0 hands out tasks; the others do them until dismissed.

    On rank 0 it is a context, at whose end the others are dismissed; they call :meth:`serve`
    meanwhile. An error on any rank ends the work on all of them.

    Args:
        ranks: Who judges.

    >>> def judge(plan, *, flops_per_sample, limit):
    ...     return Judgement(loss=1.0, glance=1.0, flops=flops_per_sample)
    >>> plan = Plan(kept={"a": (0,)}, num_channels={"a": 2})
    >>> with Judges() as judges:
    ...     judges.appoint(lambda given: judge, {})
    ...     judges.judge([Task(plans=(plan,), flops_per_sample=(2.0,), limits=(9.0,))])
    [[Judgement(loss=1.0, glance=1.0, flops=2.0, is_rejected=False)]]
    """

    def __init__(self, ranks: Ranks | None = None) -> None:
        self._ranks = ranks or Ranks()
        self._judge: Judge | None = None

    def __enter__(self) -> "Judges":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # a ValueError is told to the others by who catches it, as on_rank_zero does
        said = None if error is None or isinstance(error, ValueError) else repr(error)
        self._ranks.broadcast(("dismiss", said))

    def appoint(self, make_judge: Callable[[Any], Judge], given: Any) -> None:
        """Make the judge of every rank from ``given``, which is data; on rank 0.

        The others make theirs by the ``make_judge`` that they serve with.
        """
        self._ranks.broadcast(("appoint", given))
        self._together(partial(self._appoint, make_judge, given))

    def judge(self, tasks: Sequence[Task]) -> list[list[Judgement]]:
        """What the judges say of each task, in order; on rank 0.

        Raises:
            RuntimeError: If another rank failed; names it, with its error.
        """
        self._ranks.broadcast(("judge", tasks))
        shares = self._together(lambda: self._own_share(tasks))
        num_ranks = self._ranks.num_ranks
        return [shares[place % num_ranks][place // num_ranks] for place in range(len(tasks))]

    def serve(self, make_judge: Callable[[Any], Judge]) -> None:
        """Judge what rank 0 hands out, until it needs no more; on the other ranks.

        Raises:
            RuntimeError: If rank 0 failed by an error that is not told otherwise.
        """
        word, given = self._ranks.broadcast(_NOTHING)
        while word != "dismiss":
            work = self._own_share if word == "judge" else partial(self._appoint, make_judge)
            self._together(partial(work, given))
            word, given = self._ranks.broadcast(_NOTHING)
        if given is not None:
            raise RuntimeError(f"the search failed on rank 0: {given}")

    def _appoint(self, make_judge: Callable[[Any], Judge], given: Any) -> None:
        self._judge = make_judge(given)

    def _own_share(self, tasks: Sequence[Task]) -> list[list[Judgement]]:
        assert self._judge is not None, "appoint first"
        own = tasks[self._ranks.rank :: self._ranks.num_ranks]
        return [task.judged_by(self._judge) for task in own]

    def _together(self, work: Callable[[], Any]) -> list[Any]:
        """What ``work`` returns on each rank; rank 0 raises what it raised on any of them."""
        result, error, said = None, None, None
        try:
            result = work()
        except BaseException as raised:  # any: the other ranks are waiting
            error, said = raised, traceback.format_exc()
        answers = self._ranks.gather((result, said))
        if error is not None and (self._ranks.is_first or not isinstance(error, Exception)):
            raise error
        for rank, (_, failure) in enumerate(answers):
            if failure is not None and self._ranks.is_first:
                raise RuntimeError(f"judging failed on rank {rank}: {failure}")
        return [answer for answer, _ in answers]
