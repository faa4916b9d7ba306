"""What a search has judged so far: a small file beside the checkpoints.

A search repeats itself exactly, so one that was killed is done again from its beginning, and asks
this file first. So does the search of another run for the same network, settings and data.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor

from lightning_cost.cost.documents import LARGEST_JSON
from lightning_cost.cost.forward import tensors_of
from lightning_cost.cost.plain_data import UNREADABLE, items, text
from lightning_cost.pruning.search.fitness import Judgement, judgement_from
from lightning_cost.pruning.search.judges import Task


class SearchMemory:
    """Judgements by what was judged, kept in a file of JSON lines.

    A line that a kill has torn or that is no judgement, and all after it, is passed over. A file
    that cannot be written, or is a link, is left alone: the search goes on without it.

    Args:
        path: The file; its folder is made when it is first written. ``None`` for none.
        run: Under which name whoever searches is known, where others search with the same file.

    Attributes:
        has_own: Whether ``run`` judged anything of what was asked or added, in this process or in
            one before it.
    """

    def __init__(self, path: Path | None = None, *, run: str | None = None) -> None:
        self.path = path
        self.num_recalled = 0
        self.has_own = False
        self._run = run
        self._own: set[str] = set()
        self._known: dict[str, list[Judgement]] = {}
        if path is not None:
            self._read(path)

    def recall(self, task: Task) -> list[Judgement] | None:
        """What was judged of ``task`` before."""
        key = _key(task)
        found = self._known.get(key)
        if found is not None and not task.is_judged_by(found):
            found = None
        self.num_recalled += found is not None
        self.has_own |= found is not None and key in self._own
        return found

    def add(self, tasks: Sequence[Task], judgements: Sequence[list[Judgement]]) -> None:
        """Keep what was found for each task, before the search goes on."""
        lines = []
        for task, found in zip(tasks, judgements, strict=True):
            key = _key(task)
            self._known[key] = found
            judged = [asdict(each) for each in found]
            lines.append(json.dumps({"task": key, "run": self._run, "judgements": judged}))
        self.has_own |= bool(lines)
        if self.path is None or not lines:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write("".join(f"{line}\n" for line in lines))
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            self.path = None

    def close(self) -> None:
        """Remove the file: the fit has ended, and its checkpoints know what was found."""
        if self.path is not None:
            self.remove(self.path)

    @staticmethod
    def remove(path: Path) -> None:
        """Remove a file of judgements; one that cannot be removed is left alone."""
        with suppress(OSError):
            path.unlink(missing_ok=True)

    def _read(self, path: Path) -> None:
        if path.is_symlink():
            self.path = None  # what it leads to is not ours to change
            return
        try:
            with path.open("rb") as file:
                content = file.read(LARGEST_JSON)
        except OSError:
            return
        if len(content) == LARGEST_JSON:
            self.path = None  # longer than any search writes: not ours to change
            return
        good = 0
        for line in content[: content.rfind(b"\n") + 1].splitlines(keepends=True):
            try:
                entry = json.loads(line)
                key, run = text(entry["task"], "task"), entry["run"]
                found = [judgement_from(each) for each in items(entry["judgements"], "judgements")]
            except UNREADABLE:
                break
            self._known[key] = found
            if run == self._run:
                self._own.add(key)
            good += len(line)
        try:
            os.truncate(path, good)  # or the next line would be written behind half a line
        except OSError:
            self.path = None


def fingerprint(*parts: Any) -> str:
    """Sixteen letters that stand for ``parts``: tensors in them, else what JSON or repr shows.

    >>> fingerprint({"a": 1}) == fingerprint({"a": 1}) != fingerprint({"a": 2})
    True
    """
    digest = hashlib.sha256()
    for part in parts:
        tensors = tensors_of(part)
        for tensor in tensors:
            digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
            digest.update(_bytes_of(tensor))
        if not tensors:
            digest.update(json.dumps(part, default=repr).encode())
    return digest.hexdigest()[:16]


def find_memory(folders: Sequence[Path], name: str, *, run: str | None = None) -> SearchMemory:
    """The memory of this name in one of ``folders``, or a new one in the first.

    Without folders it lasts as long as the process.
    """
    places = [folder / f"search-{name}.jsonl" for folder in folders]
    path = next((place for place in places if place.exists()), places[0] if places else None)
    return SearchMemory(path, run=run)


def remove_memory(folders: Sequence[Path], name: str) -> None:
    """Remove the file called ``name``, of a search of an earlier process of this fit.

    The name comes from a checkpoint: one that is none of a search's files is left alone.
    """
    if not re.fullmatch(r"search-[0-9a-f]+\.jsonl", name):
        return
    for folder in folders:
        SearchMemory.remove(folder / name)


@contextmanager
def shared_memory(folder: Path, name: str, *, run: str | None = None) -> Iterator[SearchMemory]:
    """The memory of a search that several runs want: one searches, the others wait for it."""
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"search-{name}.lock"):
        yield find_memory([folder], name, run=run)


def _bytes_of(tensor: Tensor) -> bytes:
    whole = tensor.detach().cpu().contiguous()
    return whole.reshape(-1).view(torch.uint8).numpy().tobytes() if whole.numel() else b""


def _key(task: Task) -> str:
    plans = [{name: list(kept) for name, kept in plan.kept.items()} for plan in task.plans]
    return fingerprint(plans, [repr(limit) for limit in task.limits])
