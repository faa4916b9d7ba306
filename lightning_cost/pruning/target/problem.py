"""One network to be pruned: its groups, its prices, and what its cuts cost once deployed."""

import statistics
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from lightning_cost.cost.duplicate import duplicated
from lightning_cost.cost.forward import with_batch_size
from lightning_cost.cost.measurement import Cost
from lightning_cost.cost.resource import Resource
from lightning_cost.hardware.device import Hardware
from lightning_cost.hardware.tables.latency_table import LatencyTable
from lightning_cost.monitor.measure import measure
from lightning_cost.pruning.pricing.prediction import WidthPredictor
from lightning_cost.pruning.pricing.pricer import Preview, WidthPricer
from lightning_cost.pruning.structure.grouping import Grouping
from lightning_cost.pruning.structure.groups import channel_groups
from lightning_cost.pruning.structure.plan import Plan
from lightning_cost.pruning.structure.surgery import operated, removal
from lightning_cost.pruning.target.channels import ChannelRules
from lightning_cost.pruning.target.device_meter import DeviceMeter
from lightning_cost.pruning.target.estimate import Estimate, Widths, device_estimate
from lightning_cost.pruning.target.path import RemovalPath, uniform_path, uniform_ratio_within
from lightning_cost.pruning.target.table import read_table, steps_of
from lightning_cost.pruning.target.target import within_limits

NUM_READINGS = 3
"""Readings of the smallest network, which say whether limits can be kept at all."""
NOISE = 0.02
"""Share of a measured limit that it must leave free: more readings may turn out as much higher."""


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
        dense_cost: Of ``network``, as percentages in the budget were resolved by.
        table: The device's latency table, where it has one.
        delivered: What the dense network costs after ``preview``, where that was measured.
    """

    network: nn.Module
    example: Any
    grouping: Grouping
    pricer: WidthPricer
    rules: ChannelRules
    limits: Mapping[Resource, float]
    preview: Preview
    hardware: Hardware | None
    dense_cost: Cost
    table: LatencyTable | None = None
    delivered: Cost | None = None

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
        dense_cost: Cost,
        delivered: Cost | None = None,
    ) -> "PruningProblem":
        """Trace ``network``, price its widths, and read the latency table of ``hardware``.

        Raises:
            ValueError: If there is no channel that may go; names what is left alone, and why. If
                the latency table is damaged or of another setting.
            FileNotFoundError: If there is no such table.
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
        table = read_table(hardware)
        if table is not None and rules.multiple is None:
            rules = replace(rules, multiple=steps_of(table, grouping))
        return cls(
            network=network,
            example=example,
            grouping=grouping,
            pricer=pricer,
            rules=rules,
            limits=limits,
            preview=preview,
            hardware=hardware,
            dense_cost=dense_cost,
            table=table,
            delivered=delivered,
        )

    @property
    def steps(self) -> dict[str, int]:
        """What the kept channels of each group are a multiple of."""
        return {group.name: self.rules.step_of(group.block) for group in self.grouping.groups}

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
        return measure(
            self._built(plan), self.example, hardware=self.hardware, resources=list(self.limits)
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
            ValueError: Names each such resource, its limit and the nearest reachable value. Or if
                the latency table lacks a layer of the network.
        """
        if self.table is not None and self.measured_limits:
            self.predictor()  # refuses a table that lacks a layer
        smallest = self.smallest()
        counted = self.pricer.price_plan(smallest)
        needed = {resource: counted[resource] for resource in self.counted_limits}
        margin = NOISE if self.hardware is not None and self.hardware.is_local else 0.0
        needed |= {r: value * (1 + margin) for r, value in self._typical(smallest).items()}
        over = [
            f"{resource} <= {limit:g} {resource.unit} (nearest reachable: "
            f"{needed[resource]:g} {resource.unit})"
            for resource, limit in self.limits.items()
            if needed[resource] > limit
        ]
        if over:
            raise ValueError(
                f"budget must be reachable by removing channels, got {'; '.join(over)} with "
                f"all gone that multiples of {self.rules.step} channels allow; raise the limit, "
                "lower channels.multiple, or start from a smaller network"
            )

    def floors(self) -> dict[str, int]:
        """The fewest channels that each group keeps, see :class:`ChannelRules`."""
        ratio = self.rules.min_keep_ratio
        if ratio is None:
            ratio = 0.5 * self._uniform_ratio()
        return self._floors_at(ratio)

    def lowest_floors(self) -> dict[str, int]:
        """The floors that hold in any case: those of ``min_keep_ratio`` where it is given."""
        return self._floors_at(self.rules.min_keep_ratio or 0.0)

    def _floors_at(self, ratio: float) -> dict[str, int]:
        return {
            group.name: self.rules.floor(group.num_channels, ratio, group.block)
            for group in self.grouping.groups
        }

    def path_to_target(self, path: RemovalPath) -> RemovalPath | None:
        """``path`` up to the network that fills the tightest limit; ``None`` if all are over one.

        That network is not always one of ``path``: where the next larger one is over a limit and
        the next smaller one leaves much of it unused, single groups are made wider.
        """
        measured = self.measured_limits
        with self._meter() as meter:
            target = within_limits(
                path,
                self._is_within,
                limits=measured,
                estimate=self._estimate(),
                read=lambda widths: self._read(meter, path.plan_of(widths)),
                is_noisy=meter is not None and meter.is_noisy,
            )
        return None if target is None else path.ending_at(target.widths)

    def macs_along(self, path: RemovalPath) -> list[float]:
        """MACs of each network on ``path``."""
        macs: list[float] = self.pricer.price(path.widths)[Resource.macs].tolist()
        return macs

    @property
    def limits_beside_macs(self) -> dict[Resource, float]:
        """Counted limits that say nothing of MACs."""
        return {r: limit for r, limit in self.counted_limits.items() if r is not Resource.macs}

    def macs_ratio(self) -> float:
        """Which share of the dense MACs a limit on them allows, and about what measured ones do."""
        return min([self._counted_macs_ratio(), *self._measured_shares()])

    def search_key(self) -> list[Any]:
        """What tells a search under these limits from another one, as plain data.

        A measured limit counts as a share of the dense cost, which for a percentage is the same in
        each run; what it leaves of the network as delivered is not, as that is measured anew.
        """
        if not self.measured_limits:
            return [self.floors(), self.macs_ratio()]
        shares = sorted(
            (resource.value, round(limit / self.dense_cost[resource].value, 9))
            for resource, limit in self.measured_limits.items()
        )
        return [self.lowest_floors(), self._counted_macs_ratio(), shares, self.delivered is None]

    def uniform_macs_ratio(self) -> float:
        """:meth:`macs_ratio`, or less where a uniformly narrower network must have less of them."""
        path = uniform_path({n: tuple(range(m)) for n, m in self.grouping.num_channels.items()})
        position = path.first_within(self.pricer, self.limits_beside_macs)
        macs = self.macs_along(path)
        return min(self.macs_ratio(), macs[-1 if position is None else position] / macs[0])

    def _counted_macs_ratio(self) -> float:
        limit = self.limits.get(Resource.macs)
        return 1.0 if limit is None else min(1.0, limit / self.dense_cost[Resource.macs].value)

    def _uniform_ratio(self) -> float:
        limits = dict(self.counted_limits)
        if self.measured_limits:
            # the device's answer to narrower networks is not known yet: take MACs for it
            dense_macs = self.pricer.price(self._dense_widths())[Resource.macs].item()
            macs = min([1.0, *self._measured_shares()]) * dense_macs
            limits[Resource.macs] = min(macs, limits.get(Resource.macs, macs))
        ratio = uniform_ratio_within(self.grouping.num_channels, self.pricer, limits)
        return 0.0 if ratio is None else ratio

    def _measured_shares(self) -> list[float]:
        """Of what the dense network would cost deployed, how much each measured limit leaves."""
        dense = self._delivered()
        return [limit / dense[r].value for r, limit in self.measured_limits.items()]

    def _delivered(self) -> Cost:
        return {**self.dense_cost, **(self.delivered or {})}

    def _dense_widths(self) -> Widths:
        return self.pricer.widths_of(Plan.dense(self.grouping))

    def _is_within(self, widths: Widths) -> npt.NDArray[np.bool_]:
        """Which of widths [N, num_groups] keep the counted limits."""
        costs = self.pricer.price(widths)
        is_kept = np.ones(len(widths), dtype=bool)
        for resource, limit in self.counted_limits.items():
            is_kept &= costs[resource] <= limit
        return is_kept

    def _estimate(self) -> Estimate:
        """What the device is expected to measure."""
        if not self.measured_limits:
            return lambda widths: {}
        dense = {r: measurement.value for r, measurement in self._delivered().items()}
        return device_estimate(
            self.predictor(),
            self.pricer,
            self._dense_widths(),
            dense={r: dense.get(r, limit) for r, limit in self.measured_limits.items()},
        )

    def predictor(self) -> WidthPredictor | None:
        """By latency table here, by its models on a described device; else there is none."""
        if self.hardware is None or (self.hardware.is_local and self.table is None):
            return None
        try:
            return WidthPredictor(
                self.network,
                with_batch_size(self.example, self.hardware.batch_size),
                self.grouping,
                hardware=self.hardware,
                table=self.table,
                preview=self.preview,
                is_judged=False,
            )
        except ValueError:
            if self.table is not None:
                raise
            return None  # a network that is not described by its widths is priced when it is built

    def _built(self, plan: Plan) -> nn.Module:
        """The network after ``plan``, of the structure that will be deployed."""
        pruned = operated(self.network, removal(self.grouping, plan))
        return self.preview(duplicated(pruned))

    def _meter(self) -> DeviceMeter | nullcontext[None]:
        if self.hardware is None or all(r.is_counted for r in self.measured_limits):
            return nullcontext()
        return DeviceMeter(
            self.network, self.example, self.hardware, self.dense_cost.get(Resource.latency_ms)
        )

    def _read(self, meter: DeviceMeter | None, plan: Plan) -> dict[Resource, float]:
        """What is measured of the network after ``plan``, read once."""
        network = self._built(plan)
        counted = [resource for resource in self.measured_limits if resource.is_counted]
        cost = measure(network, self.example, resources=counted) if counted else {}
        if meter is not None:
            cost |= meter.read(str(plan.widths), network)
        return {resource: cost[resource].value for resource in self.measured_limits}

    def _typical(self, plan: Plan) -> dict[Resource, float]:
        """The medians of a few readings of what is measured of the network after ``plan``."""
        with self._meter() as meter:
            num_readings = NUM_READINGS if meter is not None and meter.is_noisy else 1
            readings = [self._read(meter, plan) for _ in range(num_readings)]
        return {r: statistics.median(reading[r] for reading in readings) for r in readings[0]}
