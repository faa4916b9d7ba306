"""How far the pruning of one run has come, as plain data, and what that asks for next."""

from dataclasses import dataclass, field, fields
from typing import Any

from lightning_cost.cost.measurement import Cost, cost_from_dict, cost_to_dict
from lightning_cost.cost.plain_data import amount, count, entries, flag, items, text, texts
from lightning_cost.network.lineage import lineage_from_list
from lightning_cost.pruning.guard import MetricGuard
from lightning_cost.pruning.planning import Planned
from lightning_cost.pruning.schedule import PruningSchedule
from lightning_cost.pruning.structure.plan import Plan

_ALMOST_ONE = 0.999


@dataclass(kw_only=True, slots=True)
class Progress:
    """What a checkpoint knows of the pruning.

    Args:
        dense_cost: Of the network before the first step, once it is known to be prunable.
        planned: The ranking and the plans of all steps, once they are decided.
        search_flops: FLOPs that judging candidates, and fitting layers again, has used.
        search_memory: Name of the file in which the search keeps what it has judged.
        num_steps_done: Steps whose time has come, whether they were made or not.
        place: The plan in force, counted from 1; 0 is the dense network.
        num_epochs_done: Epochs that are over.
        is_halted: Whether no further step is to be made.
        remarks: What a person should know of the steps, in sentences.
        dense_metric: The watched metric of the dense network, as it was validated last.
        metric: The same of the network as it is; ``None`` until it is validated after a step.
        is_awaited: Whether the network was to be judged, and was not validated after its last step.
        learning_rates: Where the learning rate may go back to, by epoch.
        snapshot: The fit before the first step that has not been judged yet.
        snapshot_place: The plan in force then.
    """

    dense_cost: Cost | None = None
    planned: Planned | None = None
    search_flops: float = 0.0
    search_memory: str | None = None
    num_steps_done: int = 0
    place: int = 0
    num_epochs_done: int = 0
    is_halted: bool = False
    remarks: list[str] = field(default_factory=list)
    dense_metric: float | None = None
    metric: float | None = None
    is_awaited: bool = False
    learning_rates: dict[int, Any] = field(default_factory=dict)
    snapshot: dict[str, Any] | None = None
    snapshot_place: int = 0

    @property
    def plan(self) -> Plan | None:
        """The plan in force; ``None`` for the dense network."""
        if self.planned is None or not self.place:
            return None
        return self.planned.plans[self.place - 1]

    @property
    def widths(self) -> dict[str, tuple[int, int]]:
        """Channels of each group (dense, now)."""
        plan = self.plan
        if plan is None:
            return {}
        return {name: (plan.num_channels[name], width) for name, width in plan.widths.items()}

    def phase(self, schedule: PruningSchedule) -> str | None:
        """The schedule's phase; after the last step that will be made it is recovery."""
        phase = schedule.phase(self.num_epochs_done)
        return "recover" if phase == "prune" and self.is_halted else phase

    def steps_to_make(self, schedule: PruningSchedule, epoch: float) -> range:
        """Numbers, from 1, of the steps that are due after so many epochs and not done."""
        due = 0 if self.is_halted else schedule.steps_due(epoch)
        return range(self.num_steps_done + 1, due + 1)

    @property
    def is_dense(self) -> bool:
        """Whether the time of the first step has not come yet."""
        return not self.num_steps_done

    def is_judged_now(self, schedule: PruningSchedule) -> bool:
        """Whether the epoch that just ended was the last one after a pruning step.

        Or a later one, where the network was not validated by then.
        """
        epoch = self.num_epochs_done
        if self.is_halted or not self.place:
            return False
        if self.is_awaited or epoch > schedule.end_epoch:
            return self.is_awaited
        is_next_due = bool(self.steps_to_make(schedule, epoch + _ALMOST_ONE))
        return is_next_due or epoch == schedule.end_epoch

    def verdict(self, guard: MetricGuard, now: float) -> str | None:
        """A sentence on a metric that fell too far; ``None`` if it did not."""
        dense = self.dense_metric
        if dense is None or not guard.is_broken(dense, now):
            return None
        return (
            f"{guard.metric} went from {dense:.4g} to {now:.4g} by pruning step {self.place}, "
            f"which is more than {guard.max_drop:g}"
        )

    def note_metric(self, now: float | None) -> None:
        """Take in what the watched metric of the network was validated to be."""
        if self.is_dense:
            self.dense_metric = now
        else:
            self.metric = now

    def to_dict(self) -> dict[str, Any]:
        """All of it; tensors are not copied."""
        found = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        if self.dense_cost is not None:
            found["dense_cost"] = cost_to_dict(self.dense_cost)
        if self.planned is not None:
            found["planned"] = self.planned.to_dict()
        return found

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Progress":
        """The inverse of :meth:`to_dict`; further entries are passed over.

        Raises:
            ValueError: If an entry is of another type than was written.
        """
        # older checkpoints have none of these
        known = {"search_memory": None, "metric": None, "is_awaited": False, **data}
        progress = cls(**{entry.name: known[entry.name] for entry in fields(cls)})
        if data["dense_cost"] is not None:
            progress.dense_cost = cost_from_dict(data["dense_cost"])
        if data["planned"] is not None:
            progress.planned = Planned.from_dict(data["planned"])
        amount(progress.search_flops, "search_flops")
        if progress.search_memory is not None:
            text(progress.search_memory, "search_memory")
        progress.require_consistent()
        return progress

    def require_consistent(self) -> None:
        """Refuse entries of another type than was written, and such as contradict one another.

        Raises:
            ValueError: If there are any.
        """
        num_plans = 0 if self.planned is None else len(self.planned.plans)
        for name in ("num_steps_done", "place", "num_epochs_done", "snapshot_place"):
            count(getattr(self, name), name)
        if self.num_steps_done > num_plans:
            raise ValueError(
                f"num_steps_done must be <= {num_plans}, which are planned, got "
                f"{self.num_steps_done}"
            )
        if self.place > self.num_steps_done:
            raise ValueError(
                f"place must be <= num_steps_done, {self.num_steps_done}, got {self.place}"
            )
        for name in ("is_halted", "is_awaited"):
            flag(getattr(self, name), name)
        texts(self.remarks, "remarks")
        for name in ("dense_metric", "metric"):
            if not isinstance(getattr(self, name), float | None):  # a metric may be any number
                raise ValueError(f"{name} must be a number, got {getattr(self, name)!r:.60}")
        for epoch in dict(self.learning_rates):
            count(epoch, "epochs of learning_rates")
        if self.snapshot is not None:
            snapshot = entries(self.snapshot, "snapshot")
            lineage_from_list(snapshot["changes"])
            entries(snapshot["weights"], "weights of the snapshot")
            for name in ("averaged", "optimizers"):
                items(snapshot[name], f"{name} of the snapshot")
