"""Pruning inside a fit: warm up, learn the ranking, cut step by step along it, recover."""

import copy
from collections.abc import Callable
from functools import reduce
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor, nn
from typing_extensions import override

from lightning_cost.budget.model import ModelBudget
from lightning_cost.cost.measurement import Cost, cost_from_dict, cost_to_dict
from lightning_cost.cost.resource import Resource
from lightning_cost.hardware.device import Hardware
from lightning_cost.monitor.callback import CostMonitor
from lightning_cost.monitor.measure import measure
from lightning_cost.network.example import capture_example
from lightning_cost.network.find import find_network
from lightning_cost.network.participants import (
    LimitsCompute,
    StructuralCallback,
    callbacks_of,
)
from lightning_cost.network.structural import (
    apply_during_fit,
    install_replay,
    on_rank_zero,
    require_changeable,
    uninterrupted,
)
from lightning_cost.pruning.batches import BatchLoss, classification_loss, collect_batches
from lightning_cost.pruning.channels import ChannelRules
from lightning_cost.pruning.evolution import EvolutionSearch
from lightning_cost.pruning.grouping import Grouping
from lightning_cost.pruning.plan import Plan
from lightning_cost.pruning.problem import PruningProblem
from lightning_cost.pruning.ranking import GlobalRanking
from lightning_cost.pruning.schedule import PruningSchedule
from lightning_cost.pruning.search import SearchData, learn_ranking
from lightning_cost.pruning.steps import step_plans
from lightning_cost.pruning.surgery import removal


class GlobalRankingPruning(pl.Callback):
    """Removes channels during the fit until the deployed network keeps a budget.

    After the schedule's warm-up it learns one ranking of all channels on data that is not trained
    on: ``trainer.datamodule.search_dataloader()`` where there is one, else a part of the training
    data (with a warning). Then it removes the lowest-ranking channels physically, in steps, with
    training in between; optimizer state follows. What a device alone can tell (latency, energy) is
    measured on deployed candidates, as they will be after the Trainer's other compressing
    callbacks.

    Args:
        budget: Limits on the deployed network; percentages are of the dense network.
        hardware: The device; needed for limits on latency, energy and price.
        schedule: When channels go.
        search: How the ranking is learned.
        channels: Which channels may go.
        network: Path of the network in the LightningModule, where it cannot be found.
        loss: Mean loss of a network on a batch, for candidates; cross-entropy by default.
        seed: Of the search.

    Raises:
        ValueError: If the budget is empty, or needs hardware and none is given.

    Reference:
        Chin et al., "Towards Efficient Model Compression via Learned Global Ranking", 2020.
    """

    def __init__(
        self,
        budget: ModelBudget,
        *,
        hardware: Hardware | None = None,
        schedule: PruningSchedule | None = None,
        search: EvolutionSearch | None = None,
        channels: ChannelRules | None = None,
        network: str | None = None,
        loss: BatchLoss | None = None,
        seed: int = 0,
    ) -> None:
        if budget.is_empty:
            raise ValueError("budget must limit something, got none; pass ModelBudget(macs='50%')")
        budget.require_hardware(hardware)
        self.budget = budget
        self.hardware = hardware
        self.schedule = schedule or PruningSchedule()
        self.search = search or EvolutionSearch()
        self.channels = channels or ChannelRules()
        self.network = network
        self.loss = loss or classification_loss
        self.seed = seed
        self.ranking: GlobalRanking | None = None
        self._dense_cost: Cost | None = None
        self._grouping: Grouping | None = None
        self._plans: list[Plan] = []
        self._num_steps_done = 0
        self._num_epochs_done = 0
        self._search_flops = 0.0
        self._example: Any = None

    @property
    def phase(self) -> str | None:
        """``"warmup"``, ``"prune"``, ``"recover"``, or ``None`` once the schedule is over."""
        return self.schedule.phase(self._num_epochs_done)

    @property
    def is_finished(self) -> bool:
        """Whether the last channels are gone and recovery is over."""
        return self._num_epochs_done >= self.schedule.end_epoch

    @property
    def search_flops(self) -> float:
        """FLOPs that judging candidates has used."""
        return self._search_flops

    @property
    def widths(self) -> dict[str, tuple[int, int]]:
        """Channels of each group (dense, now)."""
        if not self._plans or self._num_steps_done == 0:
            return {}
        plan = self._plans[self._num_steps_done - 1]
        return {name: (plan.num_channels[name], width) for name, width in plan.widths.items()}

    def preview(self, network: nn.Module, example: Any) -> nn.Module:
        """``network`` as it is: what other callbacks make of it does not depend on widths."""
        return network

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        path, _ = find_network(pl_module, self.network)
        install_replay(pl_module, path)
        if stage != "fit":
            return
        require_changeable(trainer)
        limit = trainer.max_epochs
        if limit is not None and 0 <= limit < self.schedule.end_epoch:
            raise ValueError(
                f"max_epochs must be >= {self.schedule.end_epoch}, where the pruning schedule "
                f"ends, got {limit}; raise it, or shorten the schedule"
            )

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        _, network = find_network(pl_module, self.network)
        self._example = capture_example(trainer, pl_module, self.network)
        if self._dense_cost is not None:
            return

        def check() -> dict[str, Any]:
            resources = list(self.budget.resources)
            dense = self._known_dense(trainer, resources)
            if dense is None:
                dense = measure(network, self._example, hardware=self.hardware, resources=resources)
            problem = self._problem(trainer, network, dense)
            for name, reason in problem.grouping.left_alone.items():
                rank_zero_info(f"pruning leaves {name!r} alone: {reason}")
            problem.require_reachable()
            return cost_to_dict(dense)

        self._dense_cost = cost_from_dict(on_rank_zero(trainer, check))

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        due = self.schedule.steps_due(trainer.current_epoch)
        if due == self._num_steps_done:
            return
        _, network = find_network(pl_module, self.network)
        if not self._plans:
            self._adopt(on_rank_zero(trainer, lambda: self._planned(trainer, pl_module, network)))
        assert self._grouping is not None
        while self._num_steps_done < due:
            plan = self._plans[self._num_steps_done]
            done = self._plans[self._num_steps_done - 1] if self._num_steps_done else None
            change = removal(self._grouping, plan, done)
            if not change.kept:
                rank_zero_warn(
                    f"pruning step {self._num_steps_done + 1} of {len(self._plans)} removes "
                    "nothing: the step before it is as small already"
                )
            with uninterrupted():
                if change.kept:
                    apply_during_fit(trainer, network, change)
                self._num_steps_done += 1
            pl_module.log("pruning/keep_ratio", plan.keep_ratio)

    @override
    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if trainer.is_last_batch:
            self._require_finite(trainer, outputs)
            self._num_epochs_done = trainer.current_epoch + 1

    @override
    def state_dict(self) -> dict[str, Any]:
        return {
            "dense_cost": None if self._dense_cost is None else cost_to_dict(self._dense_cost),
            "ranking": None if self.ranking is None else self.ranking.to_dict(),
            "grouping": None if self._grouping is None else self._grouping.to_dict(),
            "plans": [plan.to_dict() for plan in self._plans],
            "num_steps_done": self._num_steps_done,
            "num_epochs_done": self._num_epochs_done,
            "search_flops": self._search_flops,
        }

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        dense_cost = state_dict["dense_cost"]
        self._dense_cost = None if dense_cost is None else cost_from_dict(dense_cost)
        self._num_steps_done = state_dict["num_steps_done"]
        self._num_epochs_done = state_dict["num_epochs_done"]
        if state_dict["plans"]:
            self._adopt(state_dict)

    def _adopt(self, planned: dict[str, Any]) -> None:
        self.ranking = GlobalRanking.from_dict(planned["ranking"])
        self._grouping = Grouping.from_dict(planned["grouping"])
        self._plans = [Plan.from_dict(plan) for plan in planned["plans"]]
        self._search_flops = planned["search_flops"]

    def _planned(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, network: nn.Module
    ) -> dict[str, Any]:
        """Search for the ranking and plan every step along it, as plain data."""
        assert self._dense_cost is not None
        problem = self._problem(trainer, network, self._dense_cost)
        limiting = [entry for entry in callbacks_of(trainer) if isinstance(entry, LimitsCompute)]

        def may_go_on(flops: float) -> bool:
            self._search_flops = flops
            return all(entry.may_go_on() for entry in limiting)

        learned = learn_ranking(
            problem,
            self.search,
            data=self._search_data(trainer, pl_module),
            loss=self.loss,
            dense_cost=self._dense_cost,
            generator=torch.Generator().manual_seed(self.seed),
            may_go_on=may_go_on,
        )
        plans = step_plans(problem, learned.ranking, self.schedule, self._dense_cost)
        return {
            "ranking": learned.ranking.to_dict(),
            "grouping": problem.grouping.to_dict(),
            "plans": [plan.to_dict() for plan in plans],
            "search_flops": learned.flops,
        }

    def _problem(self, trainer: pl.Trainer, network: nn.Module, dense: Cost) -> PruningProblem:
        rest = [callback for callback in callbacks_of(trainer) if callback is not self]
        others = [callback for callback in rest if isinstance(callback, StructuralCallback)]

        def preview(pruned: nn.Module) -> nn.Module:
            return reduce(lambda made, other: other.preview(made, self._example), others, pruned)

        return PruningProblem.of(
            network,
            self._example,
            rules=self.channels,
            limits=self.budget.limits(dense),
            preview=preview,
            hardware=self.hardware,
        )

    def _known_dense(self, trainer: pl.Trainer, resources: list[Resource]) -> Cost | None:
        """The dense cost that a monitor of the same device has measured, so that all speak of one.

        ``None`` if there is none that knows all of ``resources``.
        """
        for entry in callbacks_of(trainer):
            if isinstance(entry, CostMonitor) and entry.dense is not None:
                is_alike = entry.hardware == self.hardware or not self.budget.needs_hardware
                if is_alike and all(resource in entry.dense for resource in resources):
                    return {resource: entry.dense[resource] for resource in resources}
        return None

    def _search_data(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> SearchData:
        def to_device(batch: Any) -> Any:
            return pl_module.transfer_batch_to_device(copy.copy(batch), pl_module.device, 0)

        datamodule = getattr(trainer, "datamodule", None)
        held_out: Callable[[], Any] | None = getattr(datamodule, "search_dataloader", None)
        training: Any = trainer.train_dataloader
        if held_out is None:
            rank_zero_warn(
                "the ranking is learned on a part of the training data; give the DataModule a "
                "search_dataloader() of samples that are not trained on"
            )
        searched = training if held_out is None else held_out()
        return SearchData(
            calibration=collect_batches(training, self.search.calibration_samples, to_device),
            search=collect_batches(searched, self.search.search_samples, to_device),
        )

    def _require_finite(self, trainer: pl.Trainer, outputs: Any) -> None:
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if isinstance(loss, Tensor) and not bool(torch.isfinite(loss).all()):
            raise ValueError(
                f"the training loss must stay finite, got {float(loss)} in epoch "
                f"{trainer.current_epoch} (phase {self.phase}); lower the learning rate or prune "
                "in more steps, and go on from the last checkpoint"
            )
