"""Pruning inside a fit: warm up, learn the ranking, cut step by step along it, recover."""

import copy
from collections.abc import Iterable
from dataclasses import replace
from functools import partial, reduce
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from torch import nn
from typing_extensions import override

from lightning_cost.budget.model import ModelBudget
from lightning_cost.cost.duplicate import duplicated
from lightning_cost.cost.measurement import Cost, cost_from_dict, cost_to_dict
from lightning_cost.cost.plain_data import ANOTHER_CHECKPOINT, amount, read_as_written, text
from lightning_cost.cost.resource import Resource
from lightning_cost.hardware.device import Hardware
from lightning_cost.monitor.lookup import count_steps_anew, known_dense
from lightning_cost.monitor.measure import measure
from lightning_cost.network.averaging import averaged_copies
from lightning_cost.network.batch import first_samples
from lightning_cost.network.checkpoint import checkpoint_folders
from lightning_cost.network.distillation import Distillation
from lightning_cost.network.example import capture_example
from lightning_cost.network.find import find_network
from lightning_cost.network.finite import require_finite_loss
from lightning_cost.network.learning_rate import learning_rate_state, restore_learning_rate
from lightning_cost.network.lineage import lineage_of
from lightning_cost.network.loader import apart_from_fit, collect_batches
from lightning_cost.network.optimizer import require_cuttable
from lightning_cost.network.participants import (
    LimitsCompute,
    SharesBudget,
    StructuralCallback,
    callbacks_of,
)
from lightning_cost.network.ranks import Ranks
from lightning_cost.network.snapshot import restore_snapshot, take_snapshot
from lightning_cost.network.structural import (
    apply_during_fit,
    goes_on,
    install_replay,
    on_rank_zero,
    require_changeable,
    uninterrupted,
)
from lightning_cost.network.teacher import DenseTeacher
from lightning_cost.pruning.batches import BatchLoss, SearchData, classification_loss
from lightning_cost.pruning.guard import MetricGuard
from lightning_cost.pruning.objection import objection_to
from lightning_cost.pruning.planning import Planned, Planner
from lightning_cost.pruning.progress import Progress
from lightning_cost.pruning.ranking import GlobalRanking
from lightning_cost.pruning.reconstruction.least_squares import NUM_SAMPLES
from lightning_cost.pruning.refit import Refit
from lightning_cost.pruning.schedule import PruningSchedule
from lightning_cost.pruning.search.evolution import EvolutionSearch
from lightning_cost.pruning.search.memory import SearchMemory, remove_memory
from lightning_cost.pruning.search.run import SearchRun, SharedSearch
from lightning_cost.pruning.shares import share_out
from lightning_cost.pruning.structure.plan import Plan
from lightning_cost.pruning.structure.surgery import RemoveChannels, removal, require_at
from lightning_cost.pruning.target.channels import ChannelRules
from lightning_cost.pruning.target.problem import PruningProblem


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
        distillation: How the dense network, as it was before the first step, teaches the pruned
            one until recovery is over; ``None``: not at all. ``"auto"``: as usual for classifiers,
            not where ``loss`` is given. It needs automatic optimisation and a network that returns
            one tensor of logits.
        guard: What happens when a validation metric falls too far.
        ranking: One that was learned before, or its file: then nothing is searched. One that was
            learned for the tightest of several budgets serves the looser ones.
        search_data: Batches to judge candidates by that are not trained on, where no DataModule
            gives them.
        shared_search: Where other runs for the same trained network find what this one judged.
        seed: Of the search.

    Raises:
        ValueError: If the budget is empty, or needs hardware and none is given; if there is a
            guard and no warm-up whose end the metric is compared with.

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
        distillation: Distillation | str | None = "auto",
        guard: MetricGuard | None = None,
        ranking: GlobalRanking | str | Path | None = None,
        search_data: Iterable[Any] | None = None,
        shared_search: SharedSearch | None = None,
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
        self.distillation = _distillation(distillation, is_classifier=loss is None)
        self.guard = guard
        if guard is not None and not self.schedule.warmup_epochs:
            raise ValueError(
                "warmup_epochs must be >= 1 where a guard compares with the dense network, got 0; "
                "train one epoch before the first step, or leave the guard out"
            )
        self.search_data = search_data
        self.shared_search = shared_search
        self.seed = seed
        self._given_ranking = (
            ranking
            if ranking is None or isinstance(ranking, GlobalRanking)
            else GlobalRanking.load(ranking)
        )
        self._memory: SearchMemory | None = None
        self._memory_name: str | None = None
        self._dense_cost: Cost | None = None
        self._planned: Planned | None = None
        self._progress = Progress()
        self._teacher = DenseTeacher(self.distillation)
        self._fresh: nn.Module | None = None
        self._search_flops = 0.0
        self._example: Any = None

    @property
    def phase(self) -> str | None:
        """``"warmup"``, ``"prune"``, ``"recover"``, or ``None`` once the schedule is over."""
        return self._progress.phase(self.schedule)

    @property
    def is_finished(self) -> bool:
        """Whether the last channels are gone and recovery is over."""
        return self._progress.num_epochs_done >= self.schedule.end_epoch

    @property
    def search_flops(self) -> float:
        """FLOPs that judging candidates has used."""
        return self._search_flops

    @property
    def widths(self) -> dict[str, tuple[int, int]]:
        """Channels of each group (dense, now)."""
        plan = self._plan_in_force
        if plan is None:
            return {}
        return {name: (plan.num_channels[name], width) for name, width in plan.widths.items()}

    @property
    def ranking(self) -> GlobalRanking | None:
        """The ranking that was given, or learned; ``None`` before that."""
        return self._given_ranking if self._planned is None else self._planned.ranking

    @property
    def planned(self) -> Planned | None:
        """The ranking, and what each step was planned to leave; ``None`` before the first step."""
        return self._planned

    @property
    def num_steps_made(self) -> int:
        """The number, from 1, of the plan that is in force; 0 for the dense network."""
        return self._progress.place

    @property
    def remarks(self) -> list[str]:
        """What a person should know of the steps: those left out or taken back, and why."""
        return list(self._progress.remarks)

    def preview(self, network: nn.Module, example: Any) -> nn.Module:
        """``network`` as it is: what other callbacks make of it does not depend on widths."""
        return network

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        path, network = find_network(pl_module, self.network)
        install_replay(pl_module, path)
        if stage != "fit":
            return
        require_changeable(trainer)
        self._teacher.setup(pl_module, network)
        if self._rolls_back and self._fresh is None:
            self._fresh = duplicated(network)
        if self.schedule.updates_per_step is None:
            self._require_epochs(trainer)

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        _, network = find_network(pl_module, self.network)
        if goes_on(pl_module):
            self._require_resumed(trainer, network)
        self._example = capture_example(trainer, pl_module, self.network)
        num_updates = trainer.num_training_batches / trainer.accumulate_grad_batches
        self.schedule = self.schedule.in_epochs(num_updates)
        self._require_epochs(trainer)
        if not self.is_finished and self._teacher.start(trainer, network):
            count_steps_anew(callbacks_of(trainer))
        if self._dense_cost is not None:
            return

        def check() -> dict[str, Any]:
            resources = list(self.budget.resources)
            if self.budget.needs_hardware and Resource.latency_ms not in resources:
                resources.append(Resource.latency_ms)  # candidates are measured beside it
            device = self.hardware if self.budget.needs_hardware else None
            dense = known_dense(callbacks_of(trainer), resources, device)
            if dense is None:
                dense = measure(network, self._example, hardware=self.hardware, resources=resources)
            problem = self._problem(trainer, network, dense)
            for name, reason in problem.grouping.left_alone.items():
                rank_zero_info(f"pruning leaves {name!r} alone: {reason}")
            problem.require_reachable()
            if self._given_ranking is not None:
                self._given_ranking.require_match(problem.grouping.num_channels)
            return cost_to_dict(dense)

        self._dense_cost = cost_from_dict(on_rank_zero(trainer, check))

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        epoch, saved = trainer.current_epoch, self._progress.learning_rates
        if self.is_finished:
            self._stop_teaching(trainer)
            self._teacher.forget()
        if epoch in self.schedule.rewound_epochs and epoch not in saved:
            saved[epoch] = learning_rate_state(trainer)
        self._make_due_steps(trainer, pl_module, epoch)

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # where gradients are accumulated, only between two updates
        if batch_idx % trainer.accumulate_grad_batches == 0:
            share = batch_idx / trainer.num_training_batches
            self._make_due_steps(trainer, pl_module, trainer.current_epoch + share)

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
            require_finite_loss(trainer, outputs, self.phase)
            self._progress.num_epochs_done = trainer.current_epoch + 1

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        progress, guard = self._progress, self.guard
        if guard is None:
            return

        def read() -> float:
            return guard.read(trainer.callback_metrics)

        if progress.is_dense_over(self.schedule):
            progress.dense_metric = on_rank_zero(trainer, read)
        elif progress.is_judged_now(self.schedule):
            now = on_rank_zero(trainer, read)
            verdict = progress.verdict(guard, now)
            if verdict is not None:
                self._act(trainer, pl_module, guard.on_drop, verdict)
            progress.snapshot = None

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop_teaching(trainer)

    @override
    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._memory is not None:
            self._memory.close()
        elif self._memory_name is not None and trainer.is_global_zero:
            remove_memory(checkpoint_folders(trainer), self._memory_name)

    @override
    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._stop_teaching(trainer)

    @override
    def state_dict(self) -> dict[str, Any]:
        dense_cost = self._dense_cost
        return {
            "dense_cost": None if dense_cost is None else cost_to_dict(dense_cost),
            "limits": None if dense_cost is None else self._limits(dense_cost),
            "planned": None if self._planned is None else self._planned.to_dict(),
            "search_flops": self._search_flops,
            "search_memory": self._memory_name,
            "teacher": None if self.is_finished else self._teacher.state_dict(),
            **self._progress.to_dict(),
        }

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        with read_as_written("the checkpoint's state of GlobalRankingPruning", ANOTHER_CHECKPOINT):
            dense_cost, planned = state_dict["dense_cost"], state_dict["planned"]
            self._dense_cost = None if dense_cost is None else cost_from_dict(dense_cost)
            self._progress = Progress.from_dict(state_dict)
            self._planned = None if planned is None else Planned.from_dict(planned)
            self._teacher.load_state_dict(state_dict["teacher"])
            self._search_flops = amount(state_dict["search_flops"], "search_flops")
            memory_name = state_dict.get("search_memory")
            self._memory_name = None if memory_name is None else text(memory_name, "search_memory")
            known = self._limits(self._dense_cost) if self._dense_cost else None
            plans = () if self._planned is None else self._planned.plans
            if self._progress.num_steps_done > len(plans):
                raise ValueError(
                    f"num_steps_done must be <= {len(plans)}, which are planned, got "
                    f"{self._progress.num_steps_done}"
                )
        is_same = known is not None and state_dict["limits"] == known
        if self._planned is not None:
            _require_planned_for(limits=is_same, num_steps=len(plans) == self.schedule.num_steps)
        elif not is_same:
            self._dense_cost = None  # whether the other budget can be kept is found out anew

    @property
    def _plan_in_force(self) -> Plan | None:
        if self._planned is None or not self._progress.place:
            return None
        return self._planned.plans[self._progress.place - 1]

    @property
    def _rolls_back(self) -> bool:
        return self.guard is not None and self.guard.on_drop == "roll_back"

    def _limits(self, dense_cost: Cost) -> dict[str, float]:
        limits = self.budget.limits(dense_cost)
        return {resource.value: limit for resource, limit in limits.items()}

    def _require_resumed(self, trainer: pl.Trainer, network: nn.Module) -> None:
        """Refuse a checkpoint whose network is not the one that this callback's state is of."""
        num_done, epoch = self._progress.num_epochs_done, trainer.current_epoch
        is_pruned = any(isinstance(change, RemoveChannels) for change in lineage_of(network))
        if (is_pruned or num_done) and num_done not in (epoch, epoch + 1):
            raise ValueError(
                "the checkpoint's state of GlobalRankingPruning must be of the epoch that the fit "
                f"goes on with, {epoch}, but {num_done} were done; {ANOTHER_CHECKPOINT}"
            )
        if self._planned is not None:
            require_at(network, self._planned.grouping, self._plan_in_force)

    def _require_epochs(self, trainer: pl.Trainer) -> None:
        limit = trainer.max_epochs
        if limit is not None and 0 <= limit < self.schedule.end_epoch:
            raise ValueError(
                f"max_epochs must be >= {self.schedule.end_epoch}, where the pruning schedule "
                f"ends, got {limit}; raise it, or shorten the schedule"
            )

    def _make_due_steps(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, epoch: float
    ) -> None:
        steps = self._progress.steps_to_make(self.schedule, epoch)
        if not steps:
            return
        _, network = find_network(pl_module, self.network)
        if self._planned is None:
            for optimizer in trainer.optimizers:
                require_cuttable(optimizer)
            self._planned = self._plan(trainer, pl_module, network)
            self._teacher.learn(network)
            if self._teacher.start(trainer, network):
                count_steps_anew(callbacks_of(trainer))
        for step in steps:
            self._make_step(trainer, pl_module, network, step)
        plan = self._plan_in_force
        pl_module.log("pruning/keep_ratio", 1.0 if plan is None else plan.keep_ratio)

    def _make_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, network: nn.Module, number: int
    ) -> None:
        assert self._planned is not None
        assert self._dense_cost is not None
        plans = self._planned.plans
        progress, limits = self._progress, self.budget.limits(self._dense_cost)
        change = removal(self._planned.grouping, plans[number - 1], self._plan_in_force)

        def cost_of(candidate: nn.Module) -> Cost:
            deployed = self._preview(trainer, duplicated(candidate))
            return measure(deployed, self._example, hardware=self.hardware, resources=list(limits))

        is_last = number == len(plans)
        objection = on_rank_zero(
            trainer, lambda: objection_to(change, network, cost_of, limits, is_last=is_last)
        )
        with uninterrupted():
            if objection is None:
                if self._rolls_back and progress.snapshot is None:
                    progress.snapshot = take_snapshot(trainer, network)
                    progress.snapshot_place = progress.place
                refit = self._refit(trainer, pl_module, network)
                apply_during_fit(trainer, network, change)
                if refit is not None:
                    self._search_flops += refit.fit(change)
                progress.place = number
            else:
                self._remark(f"pruning step {number} of {len(plans)} {objection}")
            progress.num_steps_done = number
            rewound = self.schedule.rewound_epoch(number)
            if rewound is not None:
                restore_learning_rate(trainer, progress.learning_rates[rewound])

    def _refit(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, network: nn.Module
    ) -> Refit | None:
        if not self.search.reconstruct:
            return None

        def batch() -> Any:
            training = apart_from_fit(trainer.train_dataloader)
            batches = [
                pl_module.transfer_batch_to_device(batch, pl_module.device, 0)
                for batch in collect_batches(training, NUM_SAMPLES)
            ]
            return first_samples(batches, NUM_SAMPLES)

        return Refit(
            [network, *averaged_copies(trainer, network)],
            batch,
            self.loss,
            on_first_rank=partial(on_rank_zero, trainer),
            is_first=trainer.is_global_zero,
        )

    def _act(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, on_drop: str, verdict: str
    ) -> None:
        progress = self._progress
        with uninterrupted():
            progress.is_halted = on_drop != "go_on"
            if on_drop == "stop":
                trainer.should_stop = True
            elif on_drop == "roll_back":
                assert progress.snapshot is not None
                assert self._fresh is not None
                _, network = find_network(pl_module, self.network)
                restore_snapshot(trainer, network, progress.snapshot, self._fresh)
                progress.place = progress.snapshot_place
        done = {
            "stop": "stopped pruning and the fit",
            "roll_back": f"rolled back to pruning step {progress.place}",
            "go_on": "went on",
        }
        self._remark(f"{done[on_drop]}: {verdict}")

    def _remark(self, sentence: str) -> None:
        self._progress.remarks.append(sentence)
        rank_zero_warn(sentence)

    def _stop_teaching(self, trainer: pl.Trainer) -> None:
        if self._teacher.stop():
            count_steps_anew(callbacks_of(trainer))

    def _plan(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, network: nn.Module
    ) -> Planned:
        """What rank 0 decides, with the help of the others."""

        def to_device(batch: Any) -> Any:
            return pl_module.transfer_batch_to_device(copy.copy(batch), pl_module.device, 0)

        run = SearchRun(
            self.search, self.loss, seed=self.seed, to_device=to_device, ranks=Ranks.here()
        )

        sharing = [
            entry
            for entry in callbacks_of(trainer)
            if isinstance(entry, SharesBudget) and entry.has_splits
        ]

        def planned() -> tuple[dict[str, Any], float, list[Any]]:
            with run:
                decided = self._decided(trainer, network, run, sharing).to_dict()
            return decided, self._search_flops, [entry.settled for entry in sharing]

        if not trainer.is_global_zero:
            run.serve(network)
        found, self._search_flops, settled = on_rank_zero(trainer, planned)
        for entry, split in zip(sharing, settled, strict=True):
            entry.settle(split)
        return Planned.from_dict(found)

    def _decided(
        self,
        trainer: pl.Trainer,
        network: nn.Module,
        run: SearchRun,
        sharing: Iterable[SharesBudget],
    ) -> Planned:
        assert self._dense_cost is not None
        dense_cost = self._dense_cost
        splits: list[dict[str, Any]] = []
        for entry in sharing:
            tried, flops = share_out(
                entry,
                lambda: self._problem(trainer, network, dense_cost),
                lambda: run.on_device(self._search_data(trainer)),
                loss=self.loss,
                settings=self.search,
                ranking=self._given_ranking,
            )
            splits += tried
            self._search_flops += flops
        limiting = [entry for entry in callbacks_of(trainer) if isinstance(entry, LimitsCompute)]
        spent_before = self._search_flops

        def may_go_on(flops: float) -> bool:
            self._search_flops = spent_before + flops
            return all([entry.may_go_on() for entry in limiting])

        planner = Planner(self.schedule, ranking=self._given_ranking, shared=self.shared_search)
        planned = planner.plan(
            self._problem(trainer, network, dense_cost),
            run,
            data=lambda: self._search_data(trainer),
            folders=checkpoint_folders(trainer),
            may_go_on=may_go_on,
        )
        self._memory = planner.memory
        if planner.memory is not None and planner.memory.path is not None:
            self._memory_name = planner.memory.path.name
        return replace(planned, splits=splits)

    def _problem(self, trainer: pl.Trainer, network: nn.Module, dense: Cost) -> PruningProblem:
        return PruningProblem.of(
            network,
            self._example,
            rules=self.channels,
            limits=self.budget.limits(dense),
            preview=lambda pruned: self._preview(trainer, pruned),
            hardware=self.hardware,
            dense_cost=dense,
        )

    def _preview(self, trainer: pl.Trainer, pruned: nn.Module) -> nn.Module:
        """What the Trainer's other compressing callbacks will make of ``pruned``."""
        rest = [callback for callback in callbacks_of(trainer) if callback is not self]
        others = [callback for callback in rest if isinstance(callback, StructuralCallback)]
        return reduce(lambda made, other: other.preview(made, self._example), others, pruned)

    def _search_data(self, trainer: pl.Trainer) -> SearchData:
        """What candidates are judged on, on the CPU."""
        training: Any = apart_from_fit(trainer.train_dataloader)
        held_out = self.search_data
        offered = getattr(getattr(trainer, "datamodule", None), "search_dataloader", None)
        if held_out is None and offered is not None:
            held_out = offered()
        num_calibration, num_search = self.search.calibration_samples, self.search.search_samples
        if held_out is None:
            rank_zero_warn(
                "the ranking is learned on a part of the training data; split off samples that "
                "are not trained on, by torch.utils.data.random_split, and pass a DataLoader of "
                "them as search_data, or give the DataModule a search_dataloader()"
            )
            held_out = training
        return SearchData(
            calibration=collect_batches(training, num_calibration),
            search=collect_batches(held_out, num_search),
        )


def _distillation(given: Distillation | str | None, *, is_classifier: bool) -> Distillation | None:
    if isinstance(given, str):
        if given != "auto":
            raise ValueError(
                f"distillation must be a Distillation, 'auto' or None, got {given!r}; "
                "None switches it off"
            )
        return Distillation() if is_classifier else None
    return given


def _require_planned_for(**is_same: Any) -> None:
    for name, same in is_same.items():
        if not same:
            raise ValueError(
                f"{name} must be those that the checkpoint's pruning steps were planned for, got "
                "others; resume with the same budget and schedule, or start a new run"
            )
