"""The list of networks that a ranking passes through, each smaller than the one before."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lightning_cost.cost.resource import Resource
from lightning_cost.pruning.structure.plan import Plan


class PricesWidths(Protocol):
    """Whatever prices many width assignments at once."""

    def price(self, widths: npt.NDArray[np.int64]) -> Mapping[Resource, npt.NDArray[np.float64]]:
        """Costs [N] of widths [N, G]."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RemovalPath:
    """Networks from dense (position 0) to smallest; no two of them alike, none grows again.

    Args:
        names: The groups, in the order of the columns of ``widths``.
        order: The channels of each group in the order in which they go.
        widths: Channels that each group keeps, [num_positions, num_groups].
    """

    names: tuple[str, ...]
    order: Mapping[str, tuple[int, ...]]
    widths: npt.NDArray[np.int64]

    @classmethod
    def rounded(
        cls,
        *,
        order: Mapping[str, tuple[int, ...]],
        kept: npt.NDArray[np.int64],
        steps: Mapping[str, int],
    ) -> "RemovalPath":
        """The path of kept counts [K, G] rounded up to ``steps``, repetitions left out."""
        totals = np.array([len(channels) for channels in order.values()], dtype=np.int64)
        multiples = np.array([steps.get(name, 1) for name in order], dtype=np.int64)
        widths = np.minimum(totals, -(-kept // multiples) * multiples)
        is_new = np.ones(len(widths), dtype=bool)
        is_new[1:] = (widths[1:] != widths[:-1]).any(axis=1)
        return cls(names=tuple(order), order=order, widths=widths[is_new])

    def __len__(self) -> int:
        return len(self.widths)

    def plan_at(self, position: int) -> Plan:
        """Which channels stay at a position."""
        return self.plan_of(self.widths[position])

    def plan_of(self, widths: npt.NDArray[np.int64]) -> Plan:
        """Which channels stay where groups keep ``widths`` [num_groups]: the last to go."""
        counts = zip(self.names, widths.tolist(), strict=True)
        return Plan(
            kept={
                name: tuple(sorted(self.order[name][len(self.order[name]) - count :]))
                for name, count in counts
            },
            num_channels={name: len(self.order[name]) for name in self.names},
        )

    def ending_at(self, widths: npt.NDArray[np.int64]) -> "RemovalPath":
        """The path to ``widths`` [num_groups]: no network on it has less of any group.

        Args:
            widths: At least as wide, in every group, as some position.
        """
        is_larger = (np.maximum(self.widths, widths) != widths).any(axis=1)
        rows = np.concatenate([np.maximum(self.widths, widths)[is_larger], widths[None]])
        is_new = np.ones(len(rows), dtype=bool)
        is_new[1:] = (rows[1:] != rows[:-1]).any(axis=1)
        return RemovalPath(names=self.names, order=self.order, widths=rows[is_new])

    def first_within(self, pricer: PricesWidths, limits: Mapping[Resource, float]) -> int | None:
        """The position of the largest network that keeps every limit; ``None`` if none does.

        Args:
            pricer: Prices the widths of this path's groups, in their order.
            limits: On resources that ``pricer`` prices.
        """
        costs = pricer.price(self.widths)
        is_kept = np.ones(len(self.widths), dtype=bool)
        for resource, limit in limits.items():
            is_kept &= costs[resource] <= limit
        return int(is_kept.argmax()) if is_kept.any() else None


def uniform_path(
    ranking_order: Mapping[str, tuple[int, ...]],
    floors: Mapping[str, int] | None = None,
    steps: Mapping[str, int] | None = None,
) -> RemovalPath:
    """Every group keeps the same share of its channels, as in a uniformly narrower network.

    Args:
        ranking_order: The channels of each group in the order in which they go.
        floors: The fewest channels that a group keeps, where more than 1.
        steps: Kept counts of groups are rounded up to a multiple of these.
    """
    totals = np.array([len(channels) for channels in ranking_order.values()], dtype=np.int64)
    floors = floors or {}
    least = np.array([max(1, floors.get(name, 1)) for name in ranking_order], dtype=np.int64)
    # a count changes only where the ratio passes k / total for a group
    shares = [np.arange(1, total + 1) / total for total in totals]
    ratios = np.unique(np.concatenate([np.ones(1), *shares]))[::-1]
    kept = np.ceil(ratios[:, None] * totals - 1e-9).astype(np.int64)
    return RemovalPath.rounded(
        order=ranking_order,
        kept=np.maximum(kept, np.minimum(least, totals)),
        steps=steps or {},
    )


def uniform_ratio_within(
    num_channels: Mapping[str, int], pricer: PricesWidths, limits: Mapping[Resource, float]
) -> float | None:
    """The keep ratio of the largest uniformly narrower network within ``limits``.

    Returns:
        Channels kept / channels, over all groups; ``None`` if even one channel a group is over.
    """
    path = uniform_path({name: tuple(range(total)) for name, total in num_channels.items()})
    position = path.first_within(pricer, limits)
    return None if position is None else path.plan_at(position).keep_ratio
