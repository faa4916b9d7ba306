"""Checkpoints on the disk: written whole, the one before kept, damage found before it is loaded."""

import glob
import os
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from typing_extensions import override

from lightning_cost.network.whole_file import remove_drafts, whole_file


class WholeCheckpoints(TorchCheckpointIO):
    """Writes checkpoints so that neither a kill nor a power cut leaves half of one.

    Args:
        previous: Names of files, and the names under which each is kept when a new one replaces it.
    """

    def __init__(self, previous: Mapping[str, str]) -> None:
        super().__init__()
        self.previous = previous

    @override
    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        for name in (path.name, self.previous.get(path.name, path.name)):
            remove_drafts(path.parent, glob.escape(name))  # of an earlier process that was killed
        with whole_file(path) as file:
            torch.save(checkpoint, file)
            if path.name in self.previous and path.exists():
                _keep(path, path.with_name(self.previous[path.name]))


def damage_of(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint's file; ``None`` if it is as it was written.

    PyTorch itself does not compare the checksums in the file with what it reads. So its own reader
    reads here, as other readers take other bytes of a damaged file for the same entry.
    """
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            checksums = {entry.filename.partition("/")[2]: entry.CRC for entry in archive.filelist}
        if "data.pkl" not in checksums:
            return "no checkpoint"
        reader = torch._C.PyTorchFileReader(str(checkpoint))
        for name, checksum in checksums.items():
            if zlib.crc32(reader.get_record(name)) != checksum:
                return f"damaged in {name}"
    except (OSError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile) as error:
        return f"cut off or damaged: {str(error).partition(chr(10))[0]}"
    return None


def _keep(path: Path, name: Path) -> None:
    """Give the file at ``path`` a second name, in one step."""
    draft = name.with_name(f".{name.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    try:
        os.link(path, draft)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, draft)
    draft.replace(name)
