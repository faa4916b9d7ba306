"""The directory that a run writes to."""

import os
import shutil
from pathlib import Path

from pytorch_lightning.utilities import rank_zero_only

CONFIG_NAME = "config.yaml"
DENSE_NAME = "dense.pt"
DENSE_ONNX_NAME = "dense.onnx"
FINAL_NAME = "final.ckpt"
ONNX_NAME = "model.onnx"
RANKING_NAME = "ranking.json"
INTERRUPTED_NAME = "interrupted.ckpt"
LAST_NAME = "last.ckpt"
TRIAL_VARIABLE = "LIGHTNING_COST_TRIAL"
"""Holds, in the job of a sweep's trial, the trial's number."""
_SHARED = "LIGHTNING_COST_RUN_DIR"


def create_run_dir(path: str | Path) -> Path:
    """Make a directory for a new run; on further ranks, take the one that the first rank made.

    Raises:
        ValueError: If it holds something already, so that no run overwrites another.
        OSError: If it cannot be written to.
    """
    if not is_first_rank():
        return Path(os.environ.get(_SHARED, path))
    run_dir = Path(path)
    if run_dir.exists() and (not run_dir.is_dir() or any(run_dir.iterdir())):
        raise ValueError(
            f"run_dir must be new or empty, got {str(run_dir)!r}, which exists; choose another "
            "with run_dir=, or go on with that run by resume="
        )
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        probe = run_dir / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OSError(
            f"run_dir must be writable, got {str(run_dir)!r} ({error.strerror}); "
            "choose another with run_dir="
        ) from error
    # inherited by the processes that Lightning starts for the other ranks
    os.environ[_SHARED] = str(run_dir.absolute())
    return run_dir


def is_first_rank() -> bool:
    """Whether this process is the one that writes, known before a Trainer is."""
    return int(getattr(rank_zero_only, "rank", 0)) == 0


def checkpoint_to_resume(path: str | Path) -> Path:
    """The latest checkpoint that an interrupted run left in its directory.

    Raises:
        ValueError: If there is none, or if the run was finished.
    """
    run_dir = Path(path)
    left = [run_dir / name for name in (INTERRUPTED_NAME, LAST_NAME)]
    left = sorted((file for file in left if file.exists()), key=lambda file: file.stat().st_mtime)
    if not left or (run_dir / FINAL_NAME).exists():
        found = "a finished run" if left else "no checkpoint"
        raise ValueError(
            f"resume must be the directory of an interrupted run, got {str(run_dir)!r} with "
            f"{found}; it must hold {INTERRUPTED_NAME} or {LAST_NAME} and no {FINAL_NAME}"
        )
    return left[-1]


def new_logs_name(run_dir: Path) -> str:
    """A name for the logs that no earlier part of the run has used, so that none is overwritten."""
    num_parts = sum(1 for _ in run_dir.glob("logs*"))
    return f"logs_{num_parts + 1}" if num_parts else "logs"


def empty_untrained(run_dir: Path) -> None:
    """Take out what a run wrote that was refused before it trained, so that it can be tried again.

    A directory with a checkpoint is left as it is: the run can be gone on with.
    """
    if any(run_dir.glob("*.ckpt")):
        return
    (run_dir / CONFIG_NAME).unlink(missing_ok=True)
    for logs in run_dir.glob("logs*"):
        shutil.rmtree(logs)
