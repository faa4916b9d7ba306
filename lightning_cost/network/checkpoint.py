"""Loading a compressed network without a Trainer."""

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from torch import nn

from lightning_cost.network.checkpoint_file import damage_of
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
        ValueError: If the file is damaged, holds code, carries no lineage or belongs to another
            architecture, or if ``network`` has lazy layers that were never run.
    """
    saved = read_tensors(Path(checkpoint), "checkpoint")
    record = saved.get(CHECKPOINT_KEY)
    if record is None:
        raise ValueError(
            f"checkpoint must carry a lineage, got {str(checkpoint)!r} without one; "
            "save it from a Trainer with GlobalRankingPruning or QuantizationAwareTraining"
        )
    original = original_of(network)
    require_workable(original)
    try:
        changes, path, tensors = record["changes"], record["network"], saved["state_dict"]
        state = network_state(tensors, path)
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(
            f"checkpoint must be as a Trainer saved it, got {str(checkpoint)!r} with entries "
            f"missing or of another kind ({type(error).__name__}: {error}); copy it again"
        ) from error
    replay(original, lineage_from_list(changes))
    check_shapes(original, state)
    original.load_state_dict(state)
    return network.eval()


def read_tensors(path: Path, name: str) -> Mapping[str, Any]:
    """The content of a file of PyTorch's, in which no code is run.

    Args:
        path: Of the file.
        name: What it is, for errors.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, or holds something else than names, tensors and plain data.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{name} must be a file, got {str(path)!r}, which is none; give the path that it was "
            "saved to"
        )
    # PyTorch reads changed bytes without a word
    damage = damage_of(path) if _is_archive(path) else None
    if damage is not None:
        raise ValueError(
            f"{name} must be a whole file, got {str(path)!r}, which is {damage}; copy it again"
        )
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise ValueError(
            f"{name} must hold tensors and plain data alone, got {str(path)!r} with something "
            "else, or damaged; copy it again, and take none from whom you would not take a program"
        ) from error
    except Exception as error:  # any: a damaged archive may raise whatever comes to it
        raise ValueError(
            f"{name} must be a whole file, got {str(path)!r}, which cannot be read "
            f"({type(error).__name__}); copy it again"
        ) from error
    if not isinstance(saved, Mapping):
        raise ValueError(
            f"{name} must be as a Trainer saved it, got {str(path)!r} with "
            f"{type(saved).__name__}; give the file of a fit"
        )
    return saved


def checkpoint_folders(trainer: pl.Trainer) -> list[Path]:
    """Where the checkpoint that is resumed lies, and where the next ones will."""
    folders = [] if trainer.ckpt_path is None else [Path(trainer.ckpt_path).parent]
    for callback in callbacks_of(trainer):
        folder = getattr(callback, "dirpath", None)
        if isinstance(callback, Checkpoint) and folder is not None:
            folders.append(Path(folder))
    return folders


def _is_archive(path: Path) -> bool:
    """Whether PyTorch will read the file as an archive, and not in its older format."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"
