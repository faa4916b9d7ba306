"""The costs of one run's network over time: the dense one, today's, and one row an epoch."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from lightning_cost.cost.measurement import Cost, cost_from_dict, cost_to_dict
from lightning_cost.cost.plain_data import amount, count, entries, items, text, texts
from lightning_cost.hardware.device import Hardware
from lightning_cost.network.lineage import lineage_of
from lightning_cost.runtime.standalone import cpu_name


class CostTracker:
    """Remembers what the network costs, and measures anew only when its structure changed.

    Cost depends on the structure alone, not on the weights. The dense cost is that of the first
    measurement, if no structural change came before it.

    Attributes:
        dense: Cost before any structural change; ``None`` if the run began with a changed network.
        cost: Cost of the network as it is now.
        history: One row of plain data for each epoch.
    """

    def __init__(self) -> None:
        self.dense: Cost | None = None
        self.cost: Cost = {}
        self.history: list[dict[str, Any]] = []
        self._structure: str | None = None
        # a checkpoint of every epoch holds all rows: each is written once, and each cost
        self._costs: list[dict[str, Any]] = []
        self._rows: dict[int, str] = {}

    def refresh(
        self, network: nn.Module, measure: Callable[[], Cost], *, setting: str = ""
    ) -> bool:
        """Bring ``cost`` up to date where the structure of ``network`` changed, or the device.

        Args:
            network: As it is now.
            measure: Finds its cost.
            setting: What the cost depends on beside the network, such as the device.

        Returns:
            Whether it was measured.
        """
        structure = structure_of(network, setting)
        if structure == self._structure:
            return False
        self.cost = measure()
        if self._structure is None and not lineage_of(network):
            self.dense = self.cost
        self._structure = structure
        return True

    def add_row(
        self,
        *,
        epoch: int,
        step: int,
        seconds: float,
        phase: str | None,
        metrics: Mapping[str, float],
    ) -> None:
        """Append an epoch to the history; a row of the same epoch is replaced.

        Metrics that are not among ``metrics`` are as in the row before: a Trainer that goes on from
        a checkpoint has forgotten those that are not logged anew in every epoch.
        """
        known = self.history[-1]["metrics"] if self.history else {}
        cost = cost_to_dict(self.cost)
        if not self._costs or self._costs[-1] != cost:
            self._costs.append(cost)
        row = {
            "epoch": epoch,
            "step": step,
            "seconds": seconds,
            "phase": phase,
            "cost": self._costs[-1],
            "metrics": {**known, **metrics},
        }
        self._rows[epoch] = json.dumps({**row, "cost": len(self._costs) - 1})
        self.history = [other for other in self.history if other["epoch"] != epoch] + [row]

    def state_dict(self) -> dict[str, Any]:
        """Everything that is remembered, as plain data."""
        return {
            "dense": None if self.dense is None else cost_to_dict(self.dense),
            "cost": cost_to_dict(self.cost),
            "costs": list(self._costs),
            "rows": [self._rows[epoch] for epoch in sorted(self._rows)],
            "structure": self._structure,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`.

        Raises:
            ValueError: If an entry is of another type than was written, or epochs are not in order.
        """
        self.dense = None if state["dense"] is None else cost_from_dict(state["dense"])
        self.cost = cost_from_dict(state["cost"])
        costs = [cost_from_dict(cost) for cost in items(state["costs"], "costs")]
        self._costs = [cost_to_dict(cost) for cost in costs]
        written = texts(state["rows"], "rows")
        rows = [_row_of(line) for line in written]
        epochs = [row["epoch"] for row in rows]
        if epochs != sorted(set(epochs)):
            raise ValueError(f"epochs must be in order, each once, got {epochs!r:.60}")
        self._rows = dict(zip(epochs, written, strict=True))
        self.history = [{**row, "cost": self._costs[row["cost"]]} for row in rows]
        self._structure = (
            None if state["structure"] is None else text(state["structure"], "structure")
        )


def _row_of(line: str) -> dict[str, Any]:
    row = dict(entries(json.loads(line), "a row"))
    for name in ("epoch", "step", "cost"):
        count(row[name], name)
    amount(row["seconds"], "seconds")
    if row["phase"] is not None:
        text(row["phase"], "phase")
    for name, value in entries(row["metrics"], "metrics").items():
        if not isinstance(value, float):  # which may be any, as a loss may
            raise ValueError(f"{name} must be a number, got {value!r:.60}")
    return row


def structure_of(network: nn.Module, setting: str = "") -> str:
    """A digest of what the cost depends on: lineage, names, shapes and types of tensors, setting.

    >>> structure_of(nn.Linear(2, 3)) == structure_of(nn.Linear(2, 3))
    True
    >>> structure_of(nn.Linear(2, 3)) == structure_of(nn.Linear(3, 2))
    False
    """
    tensors = [*network.named_parameters(), *network.named_buffers()]
    described = [(name, tuple(tensor.shape), str(tensor.dtype)) for name, tensor in tensors]
    content = repr((len(lineage_of(network)), described, setting))
    return hashlib.sha256(content.encode()).hexdigest()


def setting_of(hardware: Hardware | None) -> str:
    """What a measurement on ``hardware`` depends on beside the network."""
    if hardware is None:
        return ""
    return f"{hardware!r} {cpu_name() if hardware.is_local else ''}"
