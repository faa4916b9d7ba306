"""Loading a compressed network without a Trainer."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from torch import nn

from lightning_cost.network.lineage import CHECKPOINT_KEY, lineage_from_list, replay
from lightning_cost.network.original import original_of, require_workable
from lightning_cost.network.participants import callbacks_of
from lightning_cost.network.structural import check_shapes, network_state


def load_compressed(network: nn.Module, checkpoint: str | Path) -> nn.Module:
    """Give a freshly built network the structure and the weights of a compressed one.

    Args:
        network: The architecture that the run started from; changed in place.
        checkpoint: A Lightning checkpoint of a run with a compressing callback. It is read with
            ``weights_only=True``: no code in it is run.

    Returns:
        ``network``, in evaluation mode.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file carries no lineage, belongs to another architecture, or
            ``network`` has lazy layers that were never run.
    """
    saved: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=True)
    record = saved.get(CHECKPOINT_KEY)
    if record is None:
        raise ValueError(
            f"checkpoint must carry a lineage, got {str(checkpoint)!r} without one; "
            "save it from a Trainer with GlobalRankingPruning or QuantizationAwareTraining"
        )
    original = original_of(network)
    require_workable(original)
    replay(original, lineage_from_list(record["changes"]))
    state = network_state(saved["state_dict"], record["network"])
    check_shapes(original, state)
    original.load_state_dict(state)
    return network.eval()


def checkpoint_folders(trainer: pl.Trainer) -> list[Path]:
    """Where the checkpoint that is resumed lies, and where the next ones will."""
    folders = [] if trainer.ckpt_path is None else [Path(trainer.ckpt_path).parent]
    for callback in callbacks_of(trainer):
        folder = getattr(callback, "dirpath", None)
        if isinstance(callback, Checkpoint) and folder is not None:
            folders.append(Path(folder))
    return folders
