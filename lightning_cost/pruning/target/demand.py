"""What a fit wants of the network that it prunes."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

from lightning_cost.budget.model import ModelBudget
from lightning_cost.cost.duplicate import duplicated
from lightning_cost.cost.measurement import Cost
from lightning_cost.cost.resource import Resource
from lightning_cost.hardware.device import Hardware
from lightning_cost.monitor.lookup import known_dense
from lightning_cost.monitor.measure import measure
from lightning_cost.pruning.pricing.pricer import Preview
from lightning_cost.pruning.target.channels import ChannelRules
from lightning_cost.pruning.target.problem import PruningProblem


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """A budget on a device, and how networks are deployed there.

    Args:
        budget: Limits on the deployed network.
        hardware: The device that uncounted resources are measured on.
        rules: Bounds on what may be removed.
        example: What one forward pass takes, batch of 1.
        preview: What later callbacks make of the network.
        is_changed_later: Whether there are such callbacks.
    """

    budget: ModelBudget
    hardware: Hardware | None
    rules: ChannelRules
    example: Any
    preview: Preview
    is_changed_later: bool = True

    def dense_cost(self, network: nn.Module, callbacks: Iterable[object]) -> Cost:
        """Of ``network`` before any change, on what is limited and what that is measured beside.

        Args:
            network: Dense; left as it is.
            callbacks: Of the Trainer; what a monitor among them knows is not measured again.
        """
        resources = list(self.budget.resources)
        if self.budget.needs_hardware and Resource.latency_ms not in resources:
            resources.append(Resource.latency_ms)  # candidates are measured beside it
        device = self.hardware if self.budget.needs_hardware else None
        known = known_dense(callbacks, resources, device)
        if known is not None:
            return known
        return measure(network, self.example, hardware=self.hardware, resources=resources)

    def deployed_cost(self, network: nn.Module) -> Cost:
        """Of ``network``, cut or not, as it will be deployed, on what is limited."""
        deployed = self.preview(duplicated(network))
        return measure(
            deployed, self.example, hardware=self.hardware, resources=self.budget.resources
        )

    def delivered(self, network: nn.Module) -> Cost | None:
        """:meth:`deployed_cost` of the dense network; ``None`` where it is the dense cost.

        What a limit leaves of it tells how many channels must go, which beside quantisation are
        fewer than the same network in floating point would have to lose.
        """
        return self.deployed_cost(network) if self.is_changed_later else None

    def problem(
        self, network: nn.Module, dense_cost: Cost, delivered: Cost | None = None
    ) -> PruningProblem:
        """How to cut ``network``, which is dense, and to what limits.

        Args:
            network: Left as it is.
            dense_cost: From :meth:`dense_cost`.
            delivered: From :meth:`delivered`.

        Raises:
            ValueError: See :meth:`PruningProblem.of`.
            FileNotFoundError: If there is no such latency table.
        """
        return PruningProblem.of(
            network,
            self.example,
            rules=self.rules,
            limits=self.budget.limits(dense_cost),
            preview=self.preview,
            hardware=self.hardware,
            dense_cost=dense_cost,
            delivered=delivered,
        )
