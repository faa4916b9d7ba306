"""A loss that is no number ends a fit: everything after it would be none either."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor


def require_finite_loss(trainer: pl.Trainer, outputs: Any, phase: str | None) -> None:
    """Raise if the training step that gave ``outputs`` has a loss that is not finite.

    Raises:
        ValueError: Names the epoch and the phase.
    """
    loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
    if isinstance(loss, Tensor) and not bool(torch.isfinite(loss).all()):
        raise ValueError(
            f"the training loss must stay finite, got {float(loss.detach().sum())} in epoch "
            f"{trainer.current_epoch} (phase {phase}); lower the learning rate or compress "
            "in more steps, and go on from the last checkpoint"
        )
