"""A plan: what a run would use by part, and how far its network is from its budget."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from lightning_cost.cost.measurement import Cost, cost_to_dict
from lightning_cost.cost.resource import Resource
from lightning_cost.recipe.training_machine import Estimate
from lightning_cost.report.quantities import quantity


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """The compute of one part of a run.

    Args:
        name: Such as ``"recover"``.
        flops: For all of its epochs.
        num_epochs: How many; ``None`` where it has none.
        assumptions: What the number rests on.
        is_at_most: Whether the run may do with less.
    """

    name: str
    flops: float
    assumptions: str
    num_epochs: int | None = None
    is_at_most: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPlan:
    """What a run would use, and how far its network is from its budget.

    Args:
        title: What is trained on what.
        shares: Compute by part.
        spend: Time, energy, emissions and money, by the names of TrainingBudget.
        dense: Cost of the dense network as deployed.
        smallest: Cost of the smallest network that compression could make of it; what counting or
            a described device can tell.
        limits: Limits on the deployed network, in the units of their resources.
        training_limits: Limits on the run, by the names of TrainingBudget.
        remarks: What the device has no room for, by name.
        not_counted: What is left out, by name.
    """

    title: str
    shares: tuple[Share, ...]
    spend: dict[str, Estimate]
    dense: Cost = field(default_factory=dict)
    smallest: Cost = field(default_factory=dict)
    limits: dict[Resource, float] = field(default_factory=dict)
    training_limits: dict[str, float] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    not_counted: tuple[str, ...] = ()

    @property
    def flops(self) -> float:
        """FLOPs of the whole run."""
        return sum(share.flops for share in self.shares)

    @property
    def obstacles(self) -> list[str]:
        """Limits that cannot be kept, as far as can be known beforehand."""
        found = [
            f"{resource} <= {quantity(limit, resource.unit)} (at least "
            f"{quantity(self.smallest[resource].value, resource.unit)})"
            for resource, limit in self.limits.items()
            if resource in self.smallest and self.smallest[resource].value > limit
        ]
        return found + [
            f"{name} of the run <= {quantity(limit, unit)} (at least {quantity(least, unit)})"
            for name, limit, least, _, unit in self._against_training_limits()
            if least > limit
        ]

    @property
    def doubts(self) -> list[str]:
        """Limits on the run that it may break, if it needs as much as it at most can."""
        return [
            f"{name} of the run <= {quantity(limit, unit)} (up to {quantity(most, unit)})"
            for name, limit, least, most, unit in self._against_training_limits()
            if least <= limit < most
        ]

    @property
    def undecided(self) -> list[str]:
        """Limits that only the run itself can tell."""
        found = [str(resource) for resource in self.limits if resource not in self.smallest]
        return found + [
            f"{name} of the run"
            for name in self.training_limits
            if name != "flops" and self.spend[name].value is None
        ]

    def _against_training_limits(self) -> Iterator[tuple[str, float, float, float, str]]:
        """Name, limit, least, most and unit of each limited amount that is known."""
        least_flops = sum(share.flops for share in self.shares if not share.is_at_most)
        for name, limit in self.training_limits.items():
            most = self.flops if name == "flops" else self.spend[name].value
            unit = "FLOP" if name == "flops" else self.spend[name].unit
            if most is not None:
                yield name, limit, most * least_flops / self.flops, most, unit

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        flops = {"value": self.flops, "unit": "FLOP", "method": "estimated"}
        return {
            "title": self.title,
            "flops": flops | {"assumptions": "; ".join(share.name for share in self.shares)},
            "shares": [
                {
                    "name": share.name,
                    "epochs": share.num_epochs,
                    "flops": share.flops,
                    "assumptions": share.assumptions,
                    "is_at_most": share.is_at_most,
                }
                for share in self.shares
            ],
            "spend": {name: estimate.to_dict() for name, estimate in self.spend.items()},
            "dense": cost_to_dict(self.dense),
            "smallest": cost_to_dict(self.smallest),
            "limits": {resource.value: limit for resource, limit in self.limits.items()},
            "training_limits": self.training_limits,
            "is_feasible": not self.obstacles,
            "obstacles": self.obstacles,
            "doubts": self.doubts,
            "undecided": self.undecided,
            "remarks": list(self.remarks),
            "not_counted": list(self.not_counted),
        }
