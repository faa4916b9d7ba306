"""Quantisation-aware training inside a fit."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_info
from torch import nn
from typing_extensions import override

from lightning_cost.network.averaging import averaged_copies
from lightning_cost.network.deploy import deployed_copy
from lightning_cost.network.example import capture_example
from lightning_cost.network.find import find_network
from lightning_cost.network.finite import require_finite_loss
from lightning_cost.network.lineage import apply_change, lineage_of
from lightning_cost.network.participants import StructuralCallback, callbacks_of
from lightning_cost.network.structural import (
    apply_during_fit,
    install_replay,
    require_changeable,
    uninterrupted,
)
from lightning_cost.quantization.calibrate import calibrate
from lightning_cost.quantization.fake_quantizers import freeze_observers
from lightning_cost.quantization.plan import plan_quantization
from lightning_cost.quantization.prepare import PrepareQuantization
from lightning_cost.quantization.schemes.registry import get_scheme
from lightning_cost.quantization.schemes.scheme import Scheme


class QuantizationAwareTraining(pl.Callback):
    """Trains the network for integer arithmetic during the last epochs of a fit.

    Batch norms are folded, and weights and activations rounded as they will be when deployed;
    modules stay what they are. Ranges of activations follow the training batches until they are
    frozen.

    Args:
        scheme: The grid of the weights, or its name.
        start: Epoch that begins it; ``None``: as soon as every other structural callback of the
            Trainer is finished, which without one is the first epoch. Better start from a trained
            network.
        epochs: Epochs of training with fake quantisers.
        freeze_after: Share of ``epochs`` after which the ranges are frozen.
        exclude: Modules that stay in floating point, all within them included.
        network: Path of the network in the LightningModule, where it cannot be found.

    Raises:
        ValueError: If an argument is out of range, or the scheme unknown.
    """

    def __init__(
        self,
        scheme: Scheme | str = "int8",
        start: int | None = None,
        *,
        epochs: int = 2,
        freeze_after: float = 0.5,
        exclude: list[str] | None = None,
        network: str | None = None,
    ) -> None:
        if start is not None and start < 0:
            raise ValueError(f"start must be >= 0, got {start}; leave it out to start by itself")
        if epochs < 1:
            raise ValueError(f"epochs must be >= 1, got {epochs}; one epoch is the least")
        if not 0 <= freeze_after <= 1:
            raise ValueError(f"freeze_after must be in [0, 1], got {freeze_after}; 0.5 is usual")
        self.scheme = get_scheme(scheme)
        self.start = start
        self.epochs = epochs
        self.freeze_after = freeze_after
        self.exclude = list(exclude or [])
        self.network = network
        self._is_begun = False
        self._is_frozen = False
        self._num_epochs_done = 0

    @property
    def phase(self) -> str | None:
        """``"quantize"`` while it trains with fake quantisers."""
        return "quantize" if self._is_begun and not self.is_finished else None

    @property
    def is_finished(self) -> bool:
        """Whether its epochs are over."""
        return self._num_epochs_done >= self.epochs

    def preview(self, network: nn.Module, example: Any) -> nn.Module:
        """``network`` quantised, with the ranges that ``example`` alone shows."""
        if not any(isinstance(change, PrepareQuantization) for change in lineage_of(network)):
            apply_change(
                network,
                plan_quantization(network, example, self.scheme, exclude=self.exclude),
            )
            calibrate(network, [example])
        return deployed_copy(network, example)

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        path, _ = find_network(pl_module, self.network)
        install_replay(pl_module, path)
        if stage == "fit":
            require_changeable(trainer)

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self._is_begun and self._is_due(trainer):
            self._begin(trainer, pl_module)

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if not self._is_begun or self._is_frozen:
            return
        epochs_done = self._num_epochs_done + batch_idx / trainer.num_training_batches
        if epochs_done >= self.freeze_after * self.epochs:
            _, network = find_network(pl_module, self.network)
            for each in (network, *averaged_copies(trainer, network)):
                freeze_observers(each)
            self._is_frozen = True

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
        if self._is_begun and trainer.is_last_batch:
            require_finite_loss(trainer, outputs, self.phase)
            self._num_epochs_done += 1

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self.is_finished:
            rank_zero_info(
                f"quantisation-aware training is not finished: {self._num_epochs_done} of "
                f"{self.epochs} epochs done; raise max_epochs and go on from the checkpoint"
            )

    @override
    def state_dict(self) -> dict[str, Any]:
        return {
            "is_begun": self._is_begun,
            "is_frozen": self._is_frozen,
            "num_epochs_done": self._num_epochs_done,
        }

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._is_begun = state_dict["is_begun"]
        self._is_frozen = state_dict["is_frozen"]
        self._num_epochs_done = state_dict["num_epochs_done"]

    def _is_due(self, trainer: pl.Trainer) -> bool:
        if self.start is not None:
            return trainer.current_epoch >= self.start
        others = [callback for callback in callbacks_of(trainer) if callback is not self]
        return all(c.is_finished for c in others if isinstance(c, StructuralCallback))

    def _begin(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        path, network = find_network(pl_module, self.network)
        example = capture_example(trainer, pl_module, self.network)
        change = plan_quantization(network, example, self.scheme, exclude=self.exclude)
        with uninterrupted():
            apply_during_fit(trainer, network, change)
            # a range to begin with; the training batches take over from the first step on
            for each in (network, *averaged_copies(trainer, network)):
                calibrate(each, [example])
            self._is_begun = True
        rank_zero_info(
            f"quantisation ({self.scheme.name}): {len(change.sources)} layers, "
            f"{len(change.folded)} batch norms folded"
        )
        for name, reason in change.left_float.items():
            rank_zero_info(f"quantisation leaves {path}.{name} in floating point: {reason}")
