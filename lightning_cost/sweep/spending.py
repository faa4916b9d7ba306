"""What the runs of a sweep use together, and whether there is room for one more."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields

from optuna.trial import FrozenTrial, TrialState

from lightning_cost.budget.training import TrainingBudget
from lightning_cost.cost.plain_data import amounts
from lightning_cost.monitor.spend import Spend
from lightning_cost.report.quantities import SPEND_UNITS, quantity

SPENT = "spent:"
"""Of a trial, with the id of one of its runs: what that run used until now."""
EXPECTED = "expected_flops"
"""Of a trial: what its run was expected to compute before it started."""
NAMES = tuple(field.name for field in fields(TrainingBudget))


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpectedFlops:
    """What a run will compute, from its plan.

    Args:
        least: What it cannot do with less.
        most: With all that it may do without: as if no channel went, say.
    """

    least: float
    most: float

    def to_dict(self) -> dict[str, float]:
        """Plain data."""
        return asdict(self)


def amounts_of(spend: Spend) -> dict[str, float]:
    """What is known of ``spend``, by the names of a training budget.

    >>> amounts_of(Spend(train_flops=2, search_flops=1, wall_clock_s=5))
    {'wall_clock_s': 5, 'flops': 3}
    """
    every = {name: getattr(spend, name) for name in NAMES}
    return {name: amount for name, amount in every.items() if amount is not None}


def used_by(trial: FrozenTrial) -> dict[str, float]:
    """What the runs of one trial used, those that were begun anew included."""
    used: Counter[str] = Counter()
    for name, told in trial.user_attrs.items():
        if name.startswith(SPENT):
            used.update(amounts(told, name))
    return dict(used)


def used_by_all(trials: Iterable[FrozenTrial]) -> dict[str, float]:
    """What all runs of a sweep used, however they ended; it never falls."""
    used: Counter[str] = Counter()
    for trial in trials:
        used.update(used_by(trial))
    return {name: used[name] for name in NAMES if name in used}


def first_exceeded(
    limits: Mapping[str, float],
    used: Mapping[str, float],
    more: Mapping[str, float],
    what: str = "more",
) -> str | None:
    """The first limit that is reached, or would be broken by ``more``, in words; or ``None``.

    Args:
        limits: By the names of ``TrainingBudget``.
        used: Until now.
        more: On top of that.
        what: Would use ``more``.

    >>> first_exceeded({"wall_clock_s": 60.0}, {"wall_clock_s": 50.0}, {"wall_clock_s": 12.0})
    'training budget of the sweep spent: wall_clock_s 50.0 s of 1 min 0 s, which more would exceed'
    """
    for name, limit in limits.items():
        now, unit = used.get(name, 0.0), SPEND_UNITS[name]
        said = f"training budget of the sweep spent: {name} {quantity(now, unit)} of " + quantity(
            limit, unit
        )
        if now >= limit:
            return said
        if now + more.get(name, 0.0) > limit:
            return f"{said}, which {what} would exceed"
    return None


def first_without_room(
    limits: Mapping[str, float], trials: Sequence[FrozenTrial], number: int
) -> str | None:
    """The first limit that a trial's run would break, in words; ``None`` where none is known to.

    A run is expected to use what its plan says at the highest rate of the finished ones: seconds,
    joules and so on for each FLOP of their plans. Until one has finished, FLOPs alone are known,
    and of those the least. Runs that go on now keep what they are expected to use.

    Args:
        limits: On the sweep.
        trials: All of them.
        number: Of the one that would be started, or gone on with.
    """
    rates = _rates(trials)
    used = used_by_all(trials)
    mine = _rest(trials[number], rates)
    more = Counter(mine)
    for trial in trials:
        if trial.state is TrialState.RUNNING and trial.number != number:
            more.update(_rest(trial, rates))
    shown = ", ".join(
        f"{name} {quantity(mine[name], SPEND_UNITS[name])}" for name in limits if name in mine
    )
    return first_exceeded(limits, used, more, f"another run of about {shown}" if shown else "more")


def _rates(trials: Iterable[FrozenTrial]) -> dict[str, float]:
    """The most that a finished run used of each amount, for each FLOP that was expected of it."""
    rates: dict[str, float] = {}
    for trial in trials:
        expected = expected_of(trial)
        if trial.state is not TrialState.COMPLETE or expected is None:
            continue
        for name, amount in used_by(trial).items():
            rates[name] = max(rates.get(name, 0.0), amount / expected.most)
    return rates


def _rest(trial: FrozenTrial, rates: Mapping[str, float]) -> dict[str, float]:
    """What a trial is expected to use from now on."""
    expected = expected_of(trial)
    if expected is None:
        return {}
    whole = {name: rate * expected.most for name, rate in rates.items()}
    used = used_by(trial)
    whole = whole or {"flops": expected.least}
    return {name: max(0.0, amount - used.get(name, 0.0)) for name, amount in whole.items()}


def expected_of(trial: FrozenTrial) -> ExpectedFlops | None:
    """What a trial's run was expected to compute; ``None`` where that was not written down.

    Raises:
        ValueError: If what was written is no such thing.
    """
    told = trial.user_attrs.get(EXPECTED)
    if told is None:
        return None
    expected = ExpectedFlops(**amounts(told, EXPECTED))
    if not expected.most > 0:
        raise ValueError(f"{EXPECTED} must be > 0, got {expected.most}")
    return expected
