"""Which network of a ranking keeps a budget: by arithmetic where possible, else by measuring.

What widths alone decide is counted for thousands of networks at once. What only a device can tell
(latency, energy, price) is estimated for them, but measured on whole deployed networks, as sums
over layers miss by several percent: propose, measure, correct the estimate, propose again.
"""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from lightning_cost.cost.resource import Resource
from lightning_cost.pruning.target.estimate import CorrectedEstimate, Estimate, Floats, Widths
from lightning_cost.pruning.target.growth import IsWithin, largest_on, next_widths
from lightning_cost.pruning.target.path import RemovalPath
from lightning_cost.runtime.median import median_interval

LARGEST_NUM_MEASUREMENTS = 24
"""Networks that are deployed and measured at most."""
FULL = 0.95
"""Share of the tightest limit that the target uses at least, where there is such a network."""
AIM = 0.975
"""What proposals aim at: the noise of a later measurement has room to both sides."""
NEAR = (0.96, 0.99)
"""How near to the aim is near enough, as long as there may be something nearer."""
FEW = 8
"""Networks after which any that surely fills the limit is near enough."""
NUM_READINGS = (6, 12)
"""Readings after which a median has an interval, and after which no more are taken."""
_LOWER = 0.97

Read = Callable[[Widths], Mapping[Resource, float]]
"""Deploys the network of widths [num_groups] and measures it once, in the limits' units."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """The network that keeps a budget.

    Args:
        widths: Channels of each group, [num_groups].
        fill: The tightest measured limit's cost / limit there; ``None`` if nothing was measured.
        num_measurements: Networks that were deployed and measured to find it.
    """

    widths: Widths
    fill: float | None
    num_measurements: int


@dataclass(kw_only=True, slots=True)
class Fill:
    """How much of the tightest limit a network uses, as often as it was read.

    Args:
        readings: Cost / limit of each limit, by reading.
    """

    readings: list[Mapping[Resource, float]] = field(default_factory=list)

    @property
    def by_resource(self) -> dict[Resource, float]:
        """The median of each limit."""
        return {
            resource: statistics.median(reading[resource] for reading in self.readings)
            for resource in self.readings[0]
        }

    @property
    def value(self) -> float:
        """That of the tightest limit."""
        return max(self.by_resource.values())

    @property
    def interval(self) -> tuple[float, float]:
        """Where the tightest limit's median lies at 95 % confidence, as far as readings tell."""
        intervals = []
        for resource in self.readings[0]:
            values = [reading[resource] for reading in self.readings]
            intervals.append(median_interval(values) or (min(values), max(values)))
        lows, highs = zip(*intervals, strict=True)
        return max(lows), max(highs)

    @property
    def is_kept(self) -> bool:
        """Whether no limit is broken, beyond doubt."""
        return self.interval[1] <= 1

    @property
    def is_full(self) -> bool:
        """Whether it is kept and filled to 95 % or more, both beyond doubt."""
        return self.is_kept and self.interval[0] >= FULL


def within_limits(
    path: RemovalPath,
    is_within: IsWithin,
    *,
    limits: Mapping[Resource, float],
    estimate: Estimate,
    read: Read,
    is_noisy: bool = True,
) -> Target | None:
    """The network of a ranking that fills the tightest limit, and keeps all.

    Args:
        path: Of the ranking.
        is_within: Which widths keep the limits that are counted.
        limits: On what is measured; empty if all limits are counted ones.
        estimate: Of what is measured, for any widths; it may be biased.
        read: One reading of a network.
        is_noisy: Whether readings of one network differ.

    Returns:
        The target; ``None`` if even the last network of the path is over a limit.
    """
    if not limits:
        widths = largest_on(path, is_within)
        return None if widths is None else Target(widths=widths, fill=None, num_measurements=0)
    search = _Search(path, is_within, limits, estimate, read, is_noisy=is_noisy)
    return search.run()


class _Search:
    def __init__(
        self,
        path: RemovalPath,
        is_within: IsWithin,
        limits: Mapping[Resource, float],
        estimate: Estimate,
        read: Read,
        *,
        is_noisy: bool,
    ) -> None:
        self._path = path
        self._is_within = is_within
        self._limits = limits
        self._estimate = CorrectedEstimate(estimate)
        self._read = read
        self._is_noisy = is_noisy
        self._aim = AIM if is_noisy else 1.0
        self._fills: dict[tuple[int, ...], Fill] = {}

    def run(self) -> Target | None:
        widths = self._proposal()
        while widths is not None and len(self._fills) < LARGEST_NUM_MEASUREMENTS:
            fill = self._fills[tuple(widths.tolist())] = Fill()
            self._take_reading(fill, widths)
            if self._is_near(fill):
                self._settle(fill, widths)
            if self._is_good(fill) or self._is_dense(widths, fill):
                return self._target(widths, fill)
            costs = {
                resource: share * self._limits[resource]
                for resource, share in fill.by_resource.items()
            }
            self._estimate.learn(widths, costs)
            widths = self._proposal()
        return self._best()

    def _take_reading(self, fill: Fill, widths: Widths) -> None:
        costs = self._read(widths)
        fill.readings.append({r: costs[r] / limit for r, limit in self._limits.items()})

    def _settle(self, fill: Fill, widths: Widths) -> None:
        """Read a network again until it is known whether it keeps and fills the limits."""
        if not self._is_noisy:
            return
        while len(fill.readings) < NUM_READINGS[0]:
            self._take_reading(fill, widths)
        while len(fill.readings) < NUM_READINGS[1] and FULL < fill.value < 1 and not fill.is_full:
            self._take_reading(fill, widths)

    def _is_near(self, fill: Fill) -> bool:
        least, most = NEAR if len(self._fills) < FEW else (FULL, 1.0)
        return least <= fill.value <= (most if self._is_noisy else 1.0)

    def _is_good(self, fill: Fill) -> bool:
        is_read = len(fill.readings) >= NUM_READINGS[0] or not self._is_noisy
        return is_read and fill.is_full and self._is_near(fill)

    def _is_dense(self, widths: Widths, fill: Fill) -> bool:
        """Whether there is nothing larger to try."""
        return fill.value <= self._aim and bool((widths == self._path.widths[0]).all())

    def _proposal(self) -> Widths | None:
        """Widths that were not measured yet and are expected to fill the tightest limit."""
        is_any_below = any(fill.value < self._aim for fill in self._fills.values())
        # on stairs a little less may cost the same: while all are over, go down in longer steps
        num_over = 0 if is_any_below else len(self._fills)
        aim = self._aim * _LOWER ** (num_over * (num_over - 1) // 2)
        proposed = self._largest_expected(aim)
        if proposed is None or tuple(proposed.tolist()) not in self._fills:
            return proposed
        return self._neighbour()

    def _largest_expected(self, aim: float) -> Widths | None:
        """The network whose expected fill is ``aim`` or less, else the smallest of all."""
        proposed = largest_on(
            self._path, lambda rows: self._is_within(rows) & (self._expected(rows) <= aim)
        )
        smallest: Widths = self._path.widths[-1]
        if proposed is None and self._is_within(smallest[None]).all():
            return smallest
        return proposed

    def _neighbour(self) -> Widths | None:
        """The best network below the aim with a little more, as near to the aim as is expected."""
        below = {key: fill.value for key, fill in self._fills.items() if fill.value < self._aim}
        for key in sorted(below, key=lambda key: -below[key]):
            rows, _ = next_widths(self._path, np.array(key, dtype=np.int64))
            if not len(rows):
                continue
            is_new = [tuple(row) not in self._fills for row in rows.tolist()]
            rows = rows[is_new & self._is_within(rows)]
            if len(rows):
                distances = np.abs(np.log(self._expected(rows) / self._aim))
                nearest: Widths = rows[int(distances.argmin())]
                return nearest
        return None

    def _expected(self, rows: Widths) -> Floats:
        """The fill of the tightest limit that is expected of widths [N, num_groups]."""
        costs = self._estimate(rows)
        shares = [costs[resource] / limit for resource, limit in self._limits.items()]
        expected: Floats = np.max(shares, axis=0)
        return expected

    def _best(self) -> Target | None:
        """The fullest measured network that keeps all limits, once it is read often enough.

        Where none does beyond doubt, the one that is furthest from the limits.
        """
        while self._fills:
            kept = {key: fill for key, fill in self._fills.items() if fill.is_kept}
            if not kept:
                key = min(self._fills, key=lambda key: self._fills[key].value)
                lowest, widths = self._fills[key], np.array(key, dtype=np.int64)
                return self._target(widths, lowest) if lowest.value <= 1 else None
            key = max(kept, key=lambda key: (kept[key].value, sum(key)))
            fill, widths = kept[key], np.array(key, dtype=np.int64)
            if not self._is_noisy or len(fill.readings) >= NUM_READINGS[0]:
                return self._target(widths, fill)
            self._settle(fill, widths)
        return None

    def _target(self, widths: Widths, fill: Fill) -> Target:
        return Target(widths=widths, fill=fill.value, num_measurements=len(self._fills))
