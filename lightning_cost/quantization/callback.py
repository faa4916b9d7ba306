"""Quantisation-aware training inside a fit."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import StochasticWeightAveraging
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from torch import nn
from typing_extensions import override

from lightning_cost.budget.model import ModelBudget
from lightning_cost.cost.plain_data import ANOTHER_CHECKPOINT, amounts, entries, read_as_written
from lightning_cost.cost.resource import Resource
from lightning_cost.hardware.device import Hardware
from lightning_cost.monitor.lookup import count_steps_anew, known_dense
from lightning_cost.network.averaging import averaged_copies
from lightning_cost.network.deploy import deployed_copy
from lightning_cost.network.distillation import Distillation
from lightning_cost.network.example import capture_batches, capture_example
from lightning_cost.network.find import find_network
from lightning_cost.network.finite import require_finite_loss
from lightning_cost.network.lineage import apply_change, lineage_of
from lightning_cost.network.participants import callbacks_of, structural_others
from lightning_cost.network.structural import (
    apply_during_fit,
    goes_on,
    install_replay,
    on_rank_zero,
    require_changeable,
    uninterrupted,
)
from lightning_cost.network.teacher import DenseTeacher
from lightning_cost.quantization.beginning import Beginning
from lightning_cost.quantization.calibrate import calibrate
from lightning_cost.quantization.fake_quantizers import freeze_observers
from lightning_cost.quantization.mixed.bits import ChosenBits
from lightning_cost.quantization.mixed.chooser import BitChooser
from lightning_cost.quantization.norms import freeze_norms
from lightning_cost.quantization.notes import notes_on
from lightning_cost.quantization.plan import plan_quantization
from lightning_cost.quantization.prepare import PrepareQuantization
from lightning_cost.quantization.progress import Progress
from lightning_cost.quantization.rules import QuantizationRules
from lightning_cost.quantization.saturation import require_runtimes, saturates
from lightning_cost.quantization.schemes.registry import get_schemes
from lightning_cost.quantization.schemes.scheme import Scheme
from lightning_cost.quantization.settings import require_type


class QuantizationAwareTraining(pl.Callback):
    """Trains the network for integer arithmetic during the last epochs of a fit.

    Weights and activations are rounded as they will be when deployed; modules stay what they are.
    Ranges are set from training data first, which with ``epochs=0`` is all (post-training
    quantisation), and then follow the training batches until they are frozen. Batch norms go on
    normalising until then, and are computed as they will be when folded from then on.

    Args:
        scheme: The grid of the weights, its name, or a mapping of its name and settings. A list of
            them: each layer gets one, the least harmful to the network's output that keep
            ``budget``; beside pruning the budget is shared between channels and bits.
        start: Epoch that begins it; ``None``: as soon as every other structural callback of the
            Trainer is finished, which without one is the first epoch (with ``epochs=0``: when the
            fit is over). Better start from a trained network. Beside pruning not before the end of
            its schedule.
        epochs: Epochs of training with fake quantisers.
        rules: Which layers are quantised how, and how their grids are found.
        distillation: How the network, as it was in floating point, teaches; ``None``: not at all.
        runtimes: What will run the network on this machine. Where the 8-bit products of one
            overflow, which is tried when quantisation begins, integer weights keep within ±64.
        budget: Limits on the deployed network, where ``scheme`` is a list.
        hardware: Whose energy model prices a limit on energy.
        network: Path of the network in the LightningModule, where it cannot be found.

    Raises:
        ValueError: If an argument is out of range or of another type, a name unknown, or a runtime
            not installed; if ``scheme`` is a list and ``budget`` limits nothing that bits have a
            part in.
    """

    def __init__(
        self,
        scheme: Scheme | str | Mapping[str, Any] | Sequence[Any] = "int8",
        start: int | None = None,
        *,
        epochs: int = 2,
        rules: QuantizationRules | None = None,
        distillation: Distillation | None = None,
        runtimes: Sequence[str] = (),
        budget: ModelBudget | None = None,
        hardware: Hardware | None = None,
        network: str | None = None,
    ) -> None:
        require_type("epochs", epochs, 2)
        if start is not None:
            require_type("start", start, 8)
        if start is not None and start < 0:
            raise ValueError(f"start must be >= 0, got {start}; leave it out to start by itself")
        if epochs < 0:
            raise ValueError(f"epochs must be >= 0, got {epochs}; 0 calibrates without training")
        self.start = start
        self.epochs = epochs
        self.rules = rules or QuantizationRules()
        choices = get_schemes(scheme)
        self.scheme = choices[0]
        self.bits: BitChooser | None = None
        """What decides on the scheme of each layer, where there are several."""
        if isinstance(scheme, Sequence) and not isinstance(scheme, str):
            self.bits = BitChooser(choices, self.rules, budget=budget, hardware=hardware)
        self._hardware = hardware
        self._limits: dict[Resource, float] | None = None
        self.distillation = distillation
        self.runtimes = require_runtimes(runtimes)
        self.network = network
        self.calibrated: dict[str, Any] | None = None
        """The ``state_dict`` of the network as it was calibrated, before training with rounding."""
        self._progress = Progress(epochs, self.rules)
        self._teacher = DenseTeacher(distillation)
        self._num_batches: int | None = None

    @property
    def _beginning(self) -> Beginning:
        return Beginning(start=self.start, epochs=self.epochs)

    @property
    def phase(self) -> str | None:
        """``"quantize"`` while it trains with fake quantisers."""
        return "quantize" if self._progress.is_training else None

    @property
    def is_finished(self) -> bool:
        """Whether its epochs are over."""
        return self._progress.is_finished

    def preview(self, network: nn.Module, example: Any) -> nn.Module:
        """``network`` quantised, with the ranges that ``example`` alone shows."""
        if not any(isinstance(change, PrepareQuantization) for change in lineage_of(network)):
            apply_change(network, self._plan(network, example, self._saturating()))
            calibrate(network, [example])
        return deployed_copy(network, example)

    @property
    def has_splits(self) -> bool:
        """Whether layers get one of several schemes."""
        return self.bits is not None

    @property
    def settled(self) -> dict[str, Any] | None:
        """The schemes that were chosen so far, as plain data."""
        chosen = None if self.bits is None else self.bits.chosen
        return None if chosen is None else chosen.to_dict()

    def splits(
        self, network: nn.Module, example: Any, forward: Callable[[nn.Module], Any]
    ) -> list[dict[str, Any]]:
        """Choices of schemes from the fewest bits to the most, for pruning to fill the rest."""
        assert self.bits is not None
        found = self.bits.splits(network, example, forward, reduced_range=bool(self._saturating()))
        return [chosen.to_dict() for chosen in found]

    def settle(self, split: Mapping[str, Any] | None) -> None:
        """Take the schemes of one of :meth:`splits` until quantisation begins."""
        if self.bits is not None:
            self.bits.chosen = None if split is None else ChosenBits.from_dict(split)

    def described(self, split: Mapping[str, Any]) -> dict[str, Any]:
        """How many layers have which scheme, and what the dense network would cost so."""
        return ChosenBits.from_dict(split).described()

    def rounded(self, network: nn.Module, example: Any, split: Mapping[str, Any]) -> nn.Module:
        """A copy of ``network`` with weights rounded as ``split`` says, in floating point."""
        assert self.bits is not None
        return self.bits.rounded(network, example, ChosenBits.from_dict(split))

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        path, network = find_network(pl_module, self.network)
        install_replay(pl_module, path)
        if stage == "fit":
            require_changeable(trainer)
            self._teacher.setup(pl_module, network)

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        _, network = find_network(pl_module, self.network)
        if goes_on(pl_module):
            self._require_resumed(network)
        self._learn_if_dense(network)
        bits = self.bits if self._limits is None else None
        if self._progress.is_begun and bits is None:
            return
        example = capture_example(trainer, pl_module, self.network)
        if not self._progress.is_begun:
            self._check(trainer, network, example)
            # whether batches can be had for calibration too, not after epochs of training
            capture_batches(trainer, pl_module, self.network, 1)
        if bits is not None:
            dense = known_dense(callbacks_of(trainer), bits.resources, self._hardware)
            is_alone = not structural_others(trainer, self)
            self._limits = on_rank_zero(
                trainer, lambda: bits.find_limits(network, example, dense, is_alone=is_alone)
            )

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.is_finished:
            self._stop_teaching(trainer)
        elif not self._progress.is_begun:
            self._beginning.require_after(structural_others(trainer, self))
            if self._is_due(trainer, trainer.current_epoch):
                self._begin(trainer, pl_module)

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self.phase is None:
            return
        _, network = find_network(pl_module, self.network)
        # not earlier: another callback may have taught until this epoch began
        if not self._teacher.is_teaching and self._teacher.start(trainer, network):
            count_steps_anew(callbacks_of(trainer))
        self._progress.advance(
            network, averaged_copies(trainer, network), self._part_done(trainer, batch_idx)
        )

    @override
    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        # not at the epoch's end: callbacks that ask there may stand before this one
        if not (self._progress.is_begun and trainer.is_last_batch):
            return
        require_finite_loss(trainer, outputs, self.phase)
        self._num_batches = batch_idx + 1
        if self._progress.num_epochs_done == self.epochs - 1:
            # what a few batches, or an unknown number of them, have left to do
            _, network = find_network(pl_module, self.network)
            self._progress.advance(network, averaged_copies(trainer, network), 1.0)
        self._progress.num_epochs_done += 1

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        _, network = find_network(pl_module, self.network)
        self._learn_if_dense(network)
        # so that the last checkpoint of the fit has it
        is_last = trainer.should_stop or 0 <= trainer.max_steps <= trainer.global_step
        self._calibrate_alone(trainer, pl_module, trainer.current_epoch + 1, is_last=is_last)

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        was_begun = self._progress.is_begun
        # where another callback has ended the fit after this one's turn
        self._calibrate_alone(trainer, pl_module, trainer.current_epoch, is_last=True)
        if self._progress.is_begun and not was_begun:
            rank_zero_warn(
                "the network was quantised when the fit had ended, after its last checkpoint was "
                "written; write another one: trainer.save_checkpoint(path)"
            )
        self._stop_teaching(trainer)
        if not self._progress.is_begun and self.epochs == 0:
            rank_zero_warn(
                "the network is not quantised: the fit ended before start, or before the other "
                "structural callbacks were finished; raise max_epochs, or begin earlier"
            )
        elif not self.is_finished:
            rank_zero_info(
                "quantisation-aware training is not finished: "
                f"{self._progress.num_epochs_done} of {self.epochs} epochs done; "
                "raise max_epochs and go on from the checkpoint"
            )

    @override
    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._stop_teaching(trainer)

    @override
    def state_dict(self) -> dict[str, Any]:
        return {
            "calibrated": self.calibrated,
            "settings": self._settings,
            "teacher": None if self.is_finished else self._teacher.state_dict(),
            **self._progress.state_dict(),
            "bits": self.settled,
            "limits": self._limits
            and {resource.value: limit for resource, limit in self._limits.items()},
        }

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        what = "the checkpoint's state of QuantizationAwareTraining"
        with read_as_written(what, ANOTHER_CHECKPOINT):
            calibrated, limits = state_dict["calibrated"], state_dict["limits"]
            self.calibrated = (
                None if calibrated is None else dict(entries(calibrated, "calibrated"))
            )
            self._teacher.load_state_dict(state_dict["teacher"])
            self._progress.load_state_dict(state_dict)
            settings = state_dict.get("settings")  # older checkpoints have none
            self.settle(state_dict["bits"])
            self._limits = limits and {
                Resource(name): limit for name, limit in amounts(limits, "limits").items()
            }

        if self._progress.is_begun and settings not in (None, self._settings):
            raise ValueError(
                "scheme and rules must be those that the network was prepared with, got "
                f"{self._settings} in place of {settings}; go on from a checkpoint of before "
                "quantisation, or with the same ones"
            )

    @property
    def _settings(self) -> dict[str, Any]:
        """What a network is prepared by, as plain data."""
        schemes = (self.scheme,) if self.bits is None else self.bits.choices
        return {"schemes": [each.to_dict() for each in schemes], **self.rules.structure}

    def _part_done(self, trainer: pl.Trainer, batch_idx: int) -> float:
        """Of the current epoch; where its length is not known, as the epoch before tells."""
        num_batches = trainer.num_training_batches
        if math.isfinite(num_batches):
            return batch_idx / num_batches
        return 0.0 if self._num_batches is None else min(batch_idx / self._num_batches, 1.0)

    def _is_due(self, trainer: pl.Trainer, epoch: int, *, is_last: bool = False) -> bool:
        others = structural_others(trainer, self)
        return self._beginning.is_due(epoch, others, is_last=is_last or epoch == trainer.max_epochs)

    def _calibrate_alone(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, epoch: int, *, is_last: bool
    ) -> None:
        """Quantise without epochs of training, for which there may be no next one to begin in."""
        if self.epochs or self._progress.is_begun:
            return
        if self._is_due(trainer, epoch, is_last=is_last):
            self._begin(trainer, pl_module)

    def _check(self, trainer: pl.Trainer, network: nn.Module, example: Any) -> None:
        """Say before the first step what would else be found out when quantisation begins."""
        plan = self._plan(network, example, saturating=())
        if plan.folded and self.epochs:
            self._require_own_norms(trainer)
        self._warn_of_lengths(trainer)
        if self._beginning.is_missed(trainer.max_epochs):
            rank_zero_warn(
                f"quantisation will not begin: start is {self.start}, and the fit ends after "
                f"max_epochs={trainer.max_epochs}; raise max_epochs, or begin earlier"
            )

    def _require_own_norms(self, trainer: pl.Trainer) -> None:
        """Refuse what exchanges, or fills anew, batch norms that are folded."""
        # Lightning has no public word for it
        if getattr(trainer.strategy, "_layer_sync", None) is not None:
            raise ValueError(
                "sync_batchnorm must be False where batch norms are folded, got True: at the end "
                "of the fit Lightning puts other modules in their place; leave it out"
            )
        if any(isinstance(each, StochasticWeightAveraging) for each in callbacks_of(trainer)):
            raise ValueError(
                "StochasticWeightAveraging must be left out where batch norms are folded: it "
                "fills their statistics anew when they stand still already; use "
                "EMAWeightAveraging, or quantise in a fit of its own"
            )

    def _warn_of_lengths(self, trainer: pl.Trainer) -> None:
        others, max_epochs = structural_others(trainer, self), trainer.max_epochs or 0
        if self.start is None and not others and 0 < self.epochs < max_epochs:
            rank_zero_warn(
                f"quantisation begins in the first epoch and is over after {self.epochs} of "
                f"{max_epochs}, from when on ranges and batch norms stand still; set "
                f"start={max_epochs - self.epochs}, or epochs={max_epochs}"
            )
        if self.epochs == 1 and not math.isfinite(trainer.num_training_batches):
            rank_zero_warn(
                "ranges and batch norms stand still after the last step alone, as it is not known "
                "how many batches the one epoch of quantisation has; give the DataLoader a "
                "length, or epochs=2"
            )

    def _saturating(self) -> list[str]:
        return [runtime for runtime in self.runtimes if saturates(runtime)]

    def _plan(
        self, network: nn.Module, example: Any, saturating: Sequence[str]
    ) -> PrepareQuantization:
        if self.bits is not None:
            return self.bits.plan(network, example, reduced_range=bool(saturating))
        return plan_quantization(
            network, example, self.scheme, self.rules, reduced_range=bool(saturating)
        )

    def _choose_bits(
        self, network: nn.Module, example: Any, batches: Sequence[Any], saturating: Sequence[str]
    ) -> dict[str, Any]:
        """The schemes for the network as it is now."""
        assert self.bits is not None
        assert self._limits is not None
        chosen = self.bits.choose(
            network, example, batches, self._limits, reduced_range=bool(saturating)
        )
        if not chosen.is_within:
            rank_zero_warn(
                "quantisation takes the fewest bits everywhere, and still the network does not "
                "keep "
                + ", ".join(f"{r} <= {limit:g} {r.unit}" for r, limit in self._limits.items())
            )
        return chosen.to_dict()

    def _begin(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        path, network = find_network(pl_module, self.network)
        example = capture_example(trainer, pl_module, self.network)
        saturating = on_rank_zero(trainer, self._saturating)
        batches = capture_batches(trainer, pl_module, self.network, self.rules.calibration_samples)
        if self.bits is not None:
            self.settle(
                on_rank_zero(
                    trainer, lambda: self._choose_bits(network, example, batches, saturating)
                )
            )
        change = self._plan(network, example, saturating)
        if self._teacher.is_missing:
            rank_zero_warn(
                "distillation is left out: the network was changed before this fit, so that it "
                "was never seen as it would teach; quantise in the fit that prunes, or pass "
                "distillation=None"
            )
        with uninterrupted():
            apply_during_fit(trainer, network, change)
            for each in (network, *averaged_copies(trainer, network)):
                calibrate(each, batches)
                if self.epochs == 0:
                    freeze_observers(each)
                    freeze_norms(each)
            self.calibrated = {
                name: value.detach().cpu().clone() for name, value in network.state_dict().items()
            }
            self._progress.is_begun = True
        for note in notes_on(change, path, saturating):
            rank_zero_info(note)

    def _require_resumed(self, network: nn.Module) -> None:
        """Refuse a checkpoint whose network is not the one that this callback's state is of."""
        changes = lineage_of(network)
        is_prepared = any(isinstance(change, PrepareQuantization) for change in changes)
        if is_prepared != self._progress.is_begun:
            words = {True: "quantised", False: "not quantised"}
            raise ValueError(
                "the checkpoint's state of QuantizationAwareTraining must be of its network, which "
                f"is {words[is_prepared]}, but it is of one that is {words[not is_prepared]}; "
                f"{ANOTHER_CHECKPOINT}"
            )

    def _learn_if_dense(self, network: nn.Module) -> None:
        if not lineage_of(network):
            self._teacher.learn(network)

    def _stop_teaching(self, trainer: pl.Trainer) -> None:
        if self._teacher.stop():
            count_steps_anew(callbacks_of(trainer))
        if self.is_finished:
            self._teacher.forget()
