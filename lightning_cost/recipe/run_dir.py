"""The directory that a run writes to."""

import logging
import os
import shutil
from pathlib import Path

from pytorch_lightning.utilities import rank_zero_only

from lightning_cost.network.checkpoint_file import damage_of
from lightning_cost.network.whole_file import remove_drafts
from lightning_cost.report.files import REPORT_NAME
from lightning_cost.report.html import PAGE_NAME

CONFIG_NAME = "config.yaml"
DENSE_NAME = "dense.pt"
DENSE_ONNX_NAME = "dense.onnx"
FINAL_NAME = "final.ckpt"
ONNX_NAME = "model.onnx"
RANKING_NAME = "ranking.json"
LAST_NAME = "last.ckpt"
PREVIOUS_NAME = "previous.ckpt"
DAMAGED_SUFFIX = ".damaged"
TRIAL_VARIABLE = "LIGHTNING_COST_TRIAL"
"""Holds, in the job of a sweep's trial, the trial's number."""
_SHARED = "LIGHTNING_COST_RUN_DIR"
_PROBE = ".writable"

_log = logging.getLogger(__name__)


def create_run_dir(path: str | Path) -> Path:
    """Make a directory for a new run; on further ranks, take the one that the first rank made.

    Raises:
        ValueError: If it holds something already, so that no run overwrites another.
        OSError: If it cannot be written to.
    """
    if not is_first_rank():
        return Path(os.environ.get(_SHARED, path))
    run_dir = Path(path)
    if run_dir.is_dir():  # what a run leaves that is killed before it has begun
        (run_dir / _PROBE).unlink(missing_ok=True)
        remove_drafts(run_dir)
    if run_dir.exists() and (not run_dir.is_dir() or any(run_dir.iterdir())):
        raise ValueError(
            f"run_dir must be new or empty, got {str(run_dir)!r}, which exists; choose another "
            "with run_dir=, or go on with that run by resume="
        )
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        probe = run_dir / _PROBE
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


def is_finished(run_dir: Path) -> bool:
    """Whether a run came to its end, which are the report and its page."""
    return (run_dir / REPORT_NAME).exists() and (run_dir / PAGE_NAME).exists()


def checkpoint_to_resume(path: str | Path) -> Path | None:
    """The latest whole checkpoint that an interrupted run left in its directory.

    One that is damaged is put aside, with a warning, for the one before it.

    Returns:
        The file, or ``None`` where the run was interrupted before it began to train.

    Raises:
        ValueError: If the run was finished, or if all its checkpoints are damaged.
    """
    run_dir = Path(path)
    if is_finished(run_dir):
        raise ValueError(
            f"resume must be the directory of an interrupted run, got {str(run_dir)!r} with a "
            f"finished run; its report is {str(run_dir / PAGE_NAME)!r}"
        )
    left = [run_dir / name for name in (FINAL_NAME, LAST_NAME, PREVIOUS_NAME)]
    left = [file for file in left if file.exists()]
    found: dict[str, str] = {}
    for file in left:
        damage = damage_of(file)
        if damage is None:
            for name, words in found.items():
                _log.warning(
                    "%s is %s: going on from %s, the one before it", name, words, file.name
                )
            return file
        found[file.name] = damage
        _put_aside(file)
    if found:
        told = "; ".join(f"{name}: {words}" for name, words in found.items())
        raise ValueError(
            f"resume must be a directory with a whole checkpoint, got {str(run_dir)!r} with "
            f"{told}; start the run again in another run_dir"
        )
    return None


def _put_aside(file: Path) -> None:
    """Keep a damaged file from becoming the one before the next."""
    if is_first_rank() and file.exists():
        file.replace(file.with_name(file.name + DAMAGED_SUFFIX))


def new_logs_name(run_dir: Path) -> str:
    """A name for the logs that no earlier part of the run has used, so that none is overwritten."""
    num_parts = sum(1 for _ in run_dir.glob("logs*"))
    return f"logs_{num_parts + 1}" if num_parts else "logs"


def empty_untrained(run_dir: Path) -> None:
    """Take out what a run wrote that was refused before it trained, so that it can try again."""
    for name in (CONFIG_NAME, DENSE_NAME, LAST_NAME):
        (run_dir / name).unlink(missing_ok=True)
    remove_notes(run_dir)
    for logs in run_dir.glob("logs*"):
        shutil.rmtree(logs)


def remove_notes(run_dir: Path) -> None:
    """Remove what is kept beside checkpoints, of which there are none."""
    for notes in (*run_dir.glob("spend-*.json"), *run_dir.glob("search-*.jsonl")):
        notes.unlink(missing_ok=True)
