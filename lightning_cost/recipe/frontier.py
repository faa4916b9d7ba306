"""The networks that one ranking leads through, from dense to smallest: costs, and what is left."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import torch
from torch import nn

from lightning_cost.cost.duplicate import duplicated
from lightning_cost.cost.measurement import Cost, Measurement, cost_to_dict
from lightning_cost.cost.resource import Resource
from lightning_cost.network.batch import num_samples_of
from lightning_cost.network.loader import collect_batches
from lightning_cost.pruning.ranking import GlobalRanking
from lightning_cost.pruning.reconstruction.least_squares import Reconstruction
from lightning_cost.pruning.reconstruction.recalibration import recalibrate_batch_norm
from lightning_cost.pruning.schedule import PruningSchedule
from lightning_cost.pruning.steps import step_plans
from lightning_cost.pruning.structure.plan import Plan
from lightning_cost.pruning.structure.surgery import operated, removal
from lightning_cost.pruning.target.problem import PruningProblem

RATIOS = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
"""The shares of the dense MACs that are looked at."""

Judge: TypeAlias = Callable[[nn.Module], Mapping[str, float]]
"""Metrics of a network, by name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FrontierPoint:
    """One network on the way of a ranking.

    Args:
        plan: Which channels it keeps.
        cost: What it costs as deployed: counted resources exactly, the device's as predicted.
        metrics: Of what is left right after the cut, batch norms recalibrated, nothing trained.
    """

    plan: Plan
    cost: Cost
    metrics: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, without the channels."""
        return {
            "cost": cost_to_dict(self.cost),
            "metrics": dict(self.metrics),
            "keep_ratio": self.plan.keep_ratio,
        }


def frontier(
    problem: PruningProblem,
    ranking: GlobalRanking,
    *,
    ratios: Sequence[float] = RATIOS,
    calibration: Sequence[Any] = (),
    reconstruction: Reconstruction | None = None,
    judge: Judge | None = None,
) -> list[FrontierPoint]:
    """The networks that ``ranking`` gives for a row of budgets, before anything is trained.

    Each is the one that a fit with that share of the dense MACs as its budget cuts to, whatever
    limits ``problem`` has. Shares that cannot be reached are left out.

    Args:
        problem: The dense network, as it will be deployed.
        ranking: Of its channels.
        ratios: Shares of the dense MACs.
        calibration: Batches (inputs, ...) for the batch norms of each network.
        reconstruction: Of ``problem.network``; fits the layers of each network again, as a fit does
            after its cuts.
        judge: Gives the metrics of each network; without it only the costs are known.

    Returns:
        In the order of ``ratios``. A device that is neither described nor has a latency table is
        not predicted: its resources are absent.

    Raises:
        ValueError: If a ratio is not in (0, 1].
    """
    for ratio in ratios:
        if not 0 < ratio <= 1:
            raise ValueError(f"ratios must lie in (0, 1], got {ratio}; 0.5 is half of the MACs")
    dense = problem.pricer.price_plan(Plan.dense(problem.grouping))[Resource.macs]
    least = problem.pricer.price_plan(problem.smallest())[Resource.macs]
    plans = [_plan(problem, ranking, ratio * dense) for ratio in ratios if ratio * dense >= least]
    costs = _costs(problem, plans)
    return [
        FrontierPoint(
            plan=plan,
            cost=cost,
            metrics={}
            if judge is None
            else judge(cut_to(problem, plan, calibration, reconstruction)),
        )
        for plan, cost in zip(plans, costs, strict=True)
    ]


def cut_to(
    problem: PruningProblem,
    plan: Plan,
    calibration: Sequence[Any],
    reconstruction: Reconstruction | None = None,
) -> nn.Module:
    """A copy of the dense network, cut to ``plan`` and put in order; nothing is trained."""
    change = removal(problem.grouping, plan)
    network = duplicated(operated(problem.network, change))
    if reconstruction is not None:
        reconstruction.fit(network, change)
    recalibrate_batch_norm(network, calibration, lambda pruned, batch: pruned(batch[0]))
    return network.eval()


def accuracy_judge(name: str, batches: Iterable[Any], num_samples: int) -> Judge:
    """A judge by the share of samples (inputs, labels) whose largest logit is the label's.

    Args:
        name: Of the metric.
        batches: Of which so many are taken that they hold at least ``num_samples``.
        num_samples: How many samples are enough.
    """
    taken = collect_batches(batches, num_samples)

    def judge(network: nn.Module) -> dict[str, float]:
        with torch.no_grad():
            right = [int((network(x).argmax(dim=1) == labels).sum()) for x, labels in taken]
        return {name: sum(right) / sum(map(num_samples_of, taken))}

    return judge


def _plan(problem: PruningProblem, ranking: GlobalRanking, macs: float) -> Plan:
    limited = replace(problem, limits={Resource.macs: macs})
    return step_plans(limited, ranking, PruningSchedule(shape="one_shot"))[-1]


def _costs(problem: PruningProblem, plans: Sequence[Plan]) -> list[Cost]:
    counted: list[Cost] = [
        {
            resource: Measurement.exact(resource, value)
            for resource, value in problem.pricer.price_plan(plan).items()
        }
        for plan in plans
    ]
    predictor, hardware = problem.predictor(), problem.hardware
    if predictor is None or hardware is None:
        return counted
    for cost, plan in zip(counted, plans, strict=True):
        for resource, found in predictor.predict(problem.pricer.widths_of(plan)).items():
            if resource in cost:
                continue
            cost[resource] = Measurement(
                value=float(found.values[0]),
                unit=resource.unit,
                method=found.method,
                device=hardware.name,
                runtime=None if problem.table is None else problem.table.runtime,
                num_threads=hardware.num_threads,
                batch_size=hardware.batch_size,
                dtype=hardware.precision,
                model=found.model,
            )
    return counted
