"""One network to be pruned: its groups, its prices, and what its cuts cost once deployed."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from lightning_cost.cost.measurement import Cost, Measurement
from lightning_cost.cost.resource import Resource
from lightning_cost.hardware.device import Hardware
from lightning_cost.monitor.measure import measure
from lightning_cost.pruning.channels import ChannelRules
from lightning_cost.pruning.grouping import Grouping
from lightning_cost.pruning.groups import channel_groups
from lightning_cost.pruning.path import RemovalPath, uniform_ratio_within
from lightning_cost.pruning.plan import Plan
from lightning_cost.pruning.pricing import Preview, WidthPricer
from lightning_cost.pruning.surgery import operated, removal
from lightning_cost.pruning.target import MARGIN, Target, largest_within


@dataclass(frozen=True, kw_only=True, slots=True)
class PruningProblem:
    """A dense network, the ways to cut it, and the limits to meet.

    Args:
        network: Dense; it is only ever copied.
        example: What one forward pass takes, batch of 1.
        grouping: Its channel groups.
        pricer: Counted costs of width assignments, as deployed.
        rules: Bounds on what may be removed.
        limits: On the deployed network.
        preview: What later callbacks make of the network.
        hardware: The device that uncounted resources are measured on.
    """

    network: nn.Module
    example: Any
    grouping: Grouping
    pricer: WidthPricer
    rules: ChannelRules
    limits: Mapping[Resource, float]
    preview: Preview
    hardware: Hardware | None

    @classmethod
    def of(
        cls,
        network: nn.Module,
        example: Any,
        *,
        rules: ChannelRules,
        limits: Mapping[Resource, float],
        preview: Preview,
        hardware: Hardware | None,
    ) -> "PruningProblem":
        """Trace ``network`` and price its widths.

        Raises:
            UntraceableNetworkError: If its channels cannot be followed; names the module.
            ValueError: If there is no channel that may go; names what is left alone, and why.
        """
        grouping = channel_groups(network, example, exclude=rules.exclude)
        if not grouping.groups:
            reasons = [f"{name}: {reason}" for name, reason in grouping.left_alone.items()]
            raise ValueError(
                "network must have channels that can be removed, got none "
                f"({'; '.join(reasons) or 'no convolution or linear layer'}); exclude less, or "
                "leave pruning out"
            )
        pricer = WidthPricer.from_network(network, example, grouping, preview)
        return cls(
            network=network,
            example=example,
            grouping=grouping,
            pricer=pricer,
            rules=rules,
            limits=limits,
            preview=preview,
            hardware=hardware,
        )

    @property
    def counted_limits(self) -> dict[Resource, float]:
        """Limits that arithmetic on widths decides."""
        return {r: limit for r, limit in self.limits.items() if r in self.pricer.resources}

    @property
    def measured_limits(self) -> dict[Resource, float]:
        """Limits that need the deployed network."""
        return {r: limit for r, limit in self.limits.items() if r not in self.pricer.resources}

    def cost_of(self, plan: Plan) -> Cost:
        """What the network costs after ``plan``, deployed, on the limited resources."""
        pruned = operated(self.network, removal(self.grouping, plan))
        return measure(
            self.preview(copy.deepcopy(pruned)),
            self.example,
            hardware=self.hardware,
            resources=list(self.limits),
        )

    def smallest(self) -> Plan:
        """The plan that removes all that may be removed."""
        floors = self.lowest_floors()
        return Plan(
            kept={name: tuple(range(floor)) for name, floor in floors.items()},
            num_channels=self.grouping.num_channels,
        )

    def require_reachable(self) -> None:
        """Refuse limits that no plan can keep.

        Raises:
            ValueError: Names each such resource, its limit and the nearest reachable value.
        """
        cost = self.cost_of(self.smallest())
        # measured limits need the same margin here as in the search for the target
        needed = {
            resource: _pessimistic(cost[resource])
            / (1 - MARGIN * (resource in self.measured_limits))
            for resource in self.limits
        }
        over = [
            f"{resource} <= {limit:g} {resource.unit} (nearest reachable: "
            f"{needed[resource]:g} {resource.unit})"
            for resource, limit in self.limits.items()
            if needed[resource] > limit
        ]
        if over:
            raise ValueError(
                f"budget must be reachable by removing channels, got {'; '.join(over)} with "
                f"at least {self.rules.multiple} channels left in each group; raise the limit, "
                "lower channels.multiple, or start from a smaller network"
            )

    def floors(self, dense_cost: Cost) -> dict[str, int]:
        """The fewest channels that each group keeps, see :class:`ChannelRules`."""
        ratio = self.rules.min_keep_ratio
        if ratio is None:
            ratio = 0.5 * self._uniform_ratio(dense_cost)
        totals = self.grouping.num_channels
        return {name: self.rules.floor(total, ratio) for name, total in totals.items()}

    def lowest_floors(self) -> dict[str, int]:
        """The floors that hold in any case: those of ``min_keep_ratio`` where it is given."""
        ratio = self.rules.min_keep_ratio or 0.0
        totals = self.grouping.num_channels
        return {name: self.rules.floor(total, ratio) for name, total in totals.items()}

    def target_on(self, path: RemovalPath) -> Target | None:
        """The largest network on ``path`` that keeps every limit, ``None`` if none does."""
        first = path.first_within(self.pricer, self.counted_limits)
        if first is None:
            return None

        def measured(position: int) -> dict[Resource, float]:
            cost = self.cost_of(path.plan_at(position))
            return {resource: _pessimistic(cost[resource]) for resource in self.measured_limits}

        sizes = self.macs_along(path)
        return largest_within(sizes, first, measured, self.measured_limits)

    def macs_along(self, path: RemovalPath) -> list[float]:
        """MACs of each network on ``path``."""
        macs: list[float] = self.pricer.price(path.widths)[Resource.macs].tolist()
        return macs

    def macs_ratio(self, dense_cost: Cost) -> float:
        """About which share of the dense MACs the limits allow: exact only for limits on MACs."""
        ratios = [limit / dense_cost[resource].value for resource, limit in self.limits.items()]
        return min([1.0, *ratios])

    def _uniform_ratio(self, dense_cost: Cost) -> float:
        limits = dict(self.counted_limits)
        if self.measured_limits:
            # the device's answer to narrower networks is not known yet: take MACs for it
            dense_macs = self.pricer.price(self._dense_widths())[Resource.macs].item()
            shares = [
                limit / dense_cost[resource].value
                for resource, limit in self.measured_limits.items()
            ]
            macs = min([1.0, *shares]) * dense_macs
            limits[Resource.macs] = min(macs, limits.get(Resource.macs, macs))
        ratio = uniform_ratio_within(self.grouping.num_channels, self.pricer, limits)
        return 0.0 if ratio is None else ratio

    def _dense_widths(self) -> Any:
        return self.pricer.widths_of(Plan.dense(self.grouping))


def _pessimistic(measurement: Measurement) -> float:
    """About the upper quartile of what was measured: a later median should not lie above it."""
    return measurement.value + (measurement.spread or 0.0) / 2
