"""Pruning inside a fit: warm up, learn the ranking, cut step by step along it, recover."""

import copy
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from torch import nn
from typing_extensions import override

from lightning_cost.budget.model import ModelBudget
from lightning_cost.cost.duplicate import duplicated
from lightning_cost.cost.measurement import cost_from_dict, cost_to_dict
from lightning_cost.cost.plain_data import ANOTHER_CHECKPOINT, read_as_written
from lightning_cost.hardware.device import Hardware
from lightning_cost.monitor.lookup import count_steps_anew
from lightning_cost.network.averaging import averaged_copies
from lightning_cost.network.checkpoint import checkpoint_folders
from lightning_cost.network.distillation import Distillation, chosen_distillation
from lightning_cost.network.example import capture_example
from lightning_cost.network.find import find_network
from lightning_cost.network.finite import require_finite_loss
from lightning_cost.network.learning_rate import learning_rate_state, restore_learning_rate
from lightning_cost.network.lineage import lineage_of
from lightning_cost.network.loader import (
    apart_from_fit,
    as_trained_on,
    collect_batches,
    held_out_data,
    training_samples,
)
from lightning_cost.network.optimizer import require_cuttable
from lightning_cost.network.participants import callbacks_of, preview_of, structural_others
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
from lightning_cost.pruning.structure.surgery import RemoveChannels, removal, require_at
from lightning_cost.pruning.target.channels import ChannelRules
from lightning_cost.pruning.target.demand import Demand


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
        self.distillation = chosen_distillation(distillation, is_classifier=loss is None)
        self.guard = guard
        if guard is not None:
            guard.require_warmup(self.schedule.warmup_epochs)
        self.search_data = search_data
        self.shared_search = shared_search
        self.seed = seed
        self._given_ranking = (
            ranking
            if ranking is None or isinstance(ranking, GlobalRanking)
            else GlobalRanking.load(ranking)
        )
        self._progress = Progress()
        self._memory: SearchMemory | None = None
        self._teacher = DenseTeacher(self.distillation)
        self._fresh: nn.Module | None = None
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
    def end_epoch(self) -> int:
        """The first epoch in which channels are neither removed nor recovered from any more."""
        return self.schedule.end_epoch

    @property
    def search_flops(self) -> float:
        """FLOPs that judging candidates has used."""
        return self._progress.search_flops

    @property
    def widths(self) -> dict[str, tuple[int, int]]:
        """Channels of each group (dense, now)."""
        return self._progress.widths

    @property
    def ranking(self) -> GlobalRanking | None:
        """The ranking that was given, or learned; ``None`` before that."""
        planned = self._progress.planned
        return self._given_ranking if planned is None else planned.ranking

    @property
    def planned(self) -> Planned | None:
        """The ranking, and what each step was planned to leave; ``None`` before the first step."""
        return self._progress.planned

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
            self.schedule.require_within(trainer.max_epochs)

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        _, network = find_network(pl_module, self.network)
        self._example = capture_example(trainer, pl_module, self.network)
        num_updates = trainer.num_training_batches / trainer.accumulate_grad_batches
        self.schedule = self.schedule.in_epochs(num_updates)
        if goes_on(pl_module):
            self._require_resumed(trainer, network)
        self.schedule.require_within(trainer.max_epochs)
        if not self.is_finished and self._teacher.start(trainer, network):
            count_steps_anew(callbacks_of(trainer))
        if self._progress.dense_cost is None:
            checked = partial(self._checked, trainer, network)
            self._progress.dense_cost = cost_from_dict(on_rank_zero(trainer, checked))

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
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        is_in_fit = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if self.guard is not None and is_in_fit:
            self._progress.note_metric(on_rank_zero(trainer, partial(self._metric_now, trainer)))

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        progress, guard = self._progress, self.guard
        if guard is None or not progress.is_judged_now(self.schedule):
            return
        is_guarded = progress.dense_metric is not None
        if is_guarded and progress.metric is None:
            self._await_metric(guard)
            return
        verdict = None if progress.metric is None else progress.verdict(guard, progress.metric)
        if verdict is not None:
            self._act(trainer, pl_module, guard.on_drop, verdict)
        progress.is_awaited = False
        progress.snapshot = None

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop_teaching(trainer)

    @override
    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._memory is not None:
            self._memory.close()
        elif self._progress.search_memory is not None and trainer.is_global_zero:
            remove_memory(checkpoint_folders(trainer), self._progress.search_memory)

    @override
    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._stop_teaching(trainer)

    @override
    def state_dict(self) -> dict[str, Any]:
        return {
            "limits": self._limits,
            "teacher": None if self.is_finished else self._teacher.state_dict(),
            **self._progress.to_dict(),
        }

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        with read_as_written("the checkpoint's state of GlobalRankingPruning", ANOTHER_CHECKPOINT):
            self._progress = progress = Progress.from_dict(state_dict)
            self._teacher.load_state_dict(state_dict["teacher"])
            limits = state_dict["limits"]
        is_same = limits == self._limits
        if progress.planned is not None:
            progress.planned.require_made_for(
                is_same_budget=is_same, num_steps=self.schedule.num_steps
            )
        elif not is_same:
            progress.dense_cost = None  # whether the other budget can be kept is found out anew

    @property
    def _rolls_back(self) -> bool:
        return self.guard is not None and self.guard.on_drop == "roll_back"

    @property
    def _limits(self) -> dict[str, float] | None:
        """By name, once the dense cost is known."""
        if self._progress.dense_cost is None:
            return None
        limits = self.budget.limits(self._progress.dense_cost)
        return {resource.value: limit for resource, limit in limits.items()}

    def _require_resumed(self, trainer: pl.Trainer, network: nn.Module) -> None:
        """Refuse a checkpoint whose network is not the one that this callback's state is of."""
        progress, epoch = self._progress, trainer.current_epoch
        is_pruned = any(isinstance(change, RemoveChannels) for change in lineage_of(network))
        # fewer may be done: the Trainer counts an epoch that was stopped in its middle
        is_later = progress.num_epochs_done > epoch + 1
        was_due = bool(progress.steps_to_make(self.schedule, epoch - 1))
        if is_later or (is_pruned and progress.planned is None and was_due):
            raise ValueError(
                "the checkpoint's state of GlobalRankingPruning must be of the epoch that the fit "
                f"goes on with, {epoch}, but {progress.num_epochs_done} were done; "
                f"{ANOTHER_CHECKPOINT}"
            )
        if progress.planned is not None:
            require_at(network, progress.planned.grouping, progress.plan)

    def _demand(self, trainer: pl.Trainer) -> Demand:
        others = structural_others(trainer, self)
        return Demand(
            budget=self.budget,
            hardware=self.hardware,
            rules=self.channels,
            example=self._example,
            preview=preview_of(others, self._example),
            is_changed_later=bool(others),
        )

    def _checked(self, trainer: pl.Trainer, network: nn.Module) -> dict[str, Any]:
        """The dense cost of ``network``, which can be pruned as is wanted: else it is refused."""
        demand = self._demand(trainer)
        dense_cost = demand.dense_cost(network, callbacks_of(trainer))
        problem = demand.problem(network, dense_cost)
        for name, reason in problem.grouping.left_alone.items():
            rank_zero_info(f"pruning leaves {name!r} alone: {reason}")
        problem.require_reachable()
        if self._given_ranking is not None:
            self._given_ranking.require_match(problem.grouping.num_channels)
        return cost_to_dict(dense_cost)

    def _make_due_steps(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, epoch: float
    ) -> None:
        progress = self._progress
        steps = progress.steps_to_make(self.schedule, epoch)
        if not steps:
            return
        _, network = find_network(pl_module, self.network)
        if self.guard is not None and progress.dense_metric is None:
            self._remark_once(
                f"the guard is off: {self.guard.metric} of the dense network is not known, as this "
                "run did not validate it with the guard; validate within the warm-up, by "
                "check_val_every_n_epoch of the Trainer"
            )
        if progress.planned is None:
            for optimizer in trainer.optimizers:
                require_cuttable(optimizer)
            progress.planned = self._plan(trainer, pl_module, network)
            self._teacher.learn(network)
            if self._teacher.start(trainer, network):
                count_steps_anew(callbacks_of(trainer))
        for number in steps:
            self._make_step(trainer, pl_module, network, number)
        plan = progress.plan
        pl_module.log("pruning/keep_ratio", 1.0 if plan is None else plan.keep_ratio)

    def _plan(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, network: nn.Module
    ) -> Planned:
        progress, dense_cost = self._progress, self._progress.dense_cost
        assert dense_cost is not None
        demand, spent_before = self._demand(trainer), progress.search_flops

        def to_device(batch: Any) -> Any:
            return as_trained_on(copy.copy(batch), trainer, pl_module)

        def spend(flops: float) -> None:
            progress.search_flops = spent_before + flops

        planner = Planner(
            self.schedule,
            SearchRun(
                self.search, self.loss, seed=self.seed, to_device=to_device, ranks=Ranks.here()
            ),
            ranking=self._given_ranking,
            shared=self.shared_search,
            callbacks=callbacks_of(trainer),
            spend=spend,
        )
        planned = planner.plan(
            network,
            lambda: demand.problem(network, dense_cost, demand.delivered(network)),
            data=lambda: self._search_data(trainer),
            folders=checkpoint_folders(trainer),
            on_first_rank=partial(on_rank_zero, trainer),
        )
        self._memory = planner.memory
        if planner.memory is not None and planner.memory.path is not None:
            progress.search_memory = planner.memory.path.name
        return planned

    def _search_data(self, trainer: pl.Trainer) -> SearchData:
        """What candidates are judged on, on the CPU."""
        training = apart_from_fit(trainer.train_dataloader)
        held_out = held_out_data(trainer) if self.search_data is None else self.search_data
        if held_out is None:
            rank_zero_warn(
                "the ranking is learned on a part of the training data; split off samples that "
                "are not trained on, by torch.utils.data.random_split, and pass a DataLoader of "
                "them as search_data, or give the DataModule a search_dataloader()"
            )
            held_out = training
        return SearchData(
            calibration=collect_batches(training, self.search.calibration_samples),
            search=collect_batches(held_out, self.search.search_samples),
        )

    def _make_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, network: nn.Module, number: int
    ) -> None:
        progress = self._progress
        assert progress.planned is not None
        assert progress.dense_cost is not None
        plans, limits = progress.planned.plans, self.budget.limits(progress.dense_cost)
        change = removal(progress.planned.grouping, plans[number - 1], progress.plan)
        cost_of, is_last = self._demand(trainer).deployed_cost, number == len(plans)
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
                    progress.search_flops += refit.fit(change)
                progress.place = number
                progress.metric, progress.is_awaited = None, False
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
        return Refit(
            [network, *averaged_copies(trainer, network)],
            partial(training_samples, trainer, pl_module, NUM_SAMPLES),
            self.loss,
            on_first_rank=partial(on_rank_zero, trainer),
            is_first=trainer.is_global_zero,
        )

    def _metric_now(self, trainer: pl.Trainer) -> float | None:
        """What validation found; an epoch that nothing is compared with may do without."""
        assert self.guard is not None
        logged = trainer.callback_metrics
        first, end = self.schedule.warmup_epochs - 1, self.end_epoch
        if self.guard.metric not in logged and not first <= trainer.current_epoch < end:
            return None
        return self.guard.read(logged)

    def _await_metric(self, guard: MetricGuard) -> None:
        self._progress.is_awaited = True
        self._remark_once(
            f"{guard.metric} was not judged after pruning step {self._progress.place}, as nothing "
            "was validated since: it is judged with the next step, or after the next validation; "
            "lower check_val_every_n_epoch of the Trainer"
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

    def _remark_once(self, sentence: str) -> None:
        if sentence not in self._progress.remarks:
            self._remark(sentence)

    def _remark(self, sentence: str) -> None:
        self._progress.remarks.append(sentence)
        rank_zero_warn(sentence)

    def _stop_teaching(self, trainer: pl.Trainer) -> None:
        if self._teacher.stop():
            count_steps_anew(callbacks_of(trainer))
