"""What a sweep used in all, against what its runs would have used one by one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lightning_cost.report.quantities import percent, quantity


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSpend:
    """What one run used.

    Args:
        train_flops: Of training and validation.
        search_flops: Of the search for its ranking, and of fitting layers again.
        hours: By the clock.
    """

    train_flops: float
    search_flops: float
    hours: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepTotal:
    """What the runs of a sweep used together.

    Args:
        train_flops, search_flops, hours: Sums over the runs.
        separate_flops: Of training and search, had each run searched for itself as long as the one
            that searched for it did.
    """

    train_flops: float
    search_flops: float
    hours: float
    separate_flops: float

    def __str__(self) -> str:
        used = self.train_flops + self.search_flops
        line = (
            f"In all {quantity(used, 'FLOP')} (search {quantity(self.search_flops, 'FLOP')}) in "
            f"{self.hours:.3g} h of runs"
        )
        if self.separate_flops <= used:
            return f"{line}, as separate runs would have used."
        saved = percent(1 - used / self.separate_flops)
        return (
            f"{line}; separate runs would have used about "
            f"{quantity(self.separate_flops, 'FLOP')}: {saved} saved."
        )


def total_of(
    runs: Mapping[str, RunSpend], searches: Mapping[str, tuple[str, ...]] | None = None
) -> SweepTotal:
    """Add up ``runs``.

    Args:
        runs: By name.
        searches: The runs that each search served, by the run that made it.

    >>> one = RunSpend(train_flops=5, search_flops=4, hours=1)
    >>> other = RunSpend(train_flops=6, search_flops=1, hours=1)
    >>> total_of({"0": one, "1": other}, {"0": ("0", "1")}).separate_flops
    19
    """
    maker_of = {run: maker for maker, served in (searches or {}).items() for run in served}
    alone = [
        max(spend.search_flops, runs[maker_of.get(name, name)].search_flops)
        for name, spend in runs.items()
    ]
    train_flops = sum(spend.train_flops for spend in runs.values())
    return SweepTotal(
        train_flops=train_flops,
        search_flops=sum(spend.search_flops for spend in runs.values()),
        hours=sum(spend.hours for spend in runs.values()),
        separate_flops=train_flops + sum(alone),
    )


def spend_of(spend: Mapping[str, Mapping[str, Any]]) -> RunSpend:
    """What a run used, by the entries of its report."""
    amounts = {name: entry["value"] or 0.0 for name, entry in spend.items()}
    return RunSpend(
        train_flops=amounts["train_flops"] + amounts.get("eval_flops", 0.0),
        search_flops=amounts["search_flops"],
        hours=amounts["wall_clock_s"] / 3600,
    )
