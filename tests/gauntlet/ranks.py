"""Several ranks: one end for all of them, or an error on all of them within a minute."""

import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.gauntlet import rank_fit
from tests.gauntlet.row import Row
from tests.gauntlet.scale import Scale
from tests.gauntlet.starting import Started, fork

ENDS_WITHIN_S = 60.0
"""How long the other ranks of one that died may go on."""
_HANGS_AFTER_S = 1200.0


def run(scale: Scale) -> Iterator[Row]:
    """One fit a row: what the ranks hold at its end, or how it ends where one rank dies."""
    alone = _held(_fit(scale.folder / "alone", 1, "alike"), scale.folder / "alone")
    if len(alone) != 1:
        raise RuntimeError(f"one rank must come to its end, got {_printed(scale.folder / 'alone')}")
    for num_ranks in scale.choose((2,), (2, 4)):
        yield _ends_as(alone[0], num_ranks, "alike", scale)
        if not scale.is_short:
            yield _ends_as(alone[0], num_ranks, "slow", scale)
            yield _ends_as(None, num_ranks, "own data", scale)
    for mode in scale.choose(("dies in training",), ("dies in training", "dies in the search")):
        for victim in scale.choose((1,), (0, 1)):
            yield _ends_with_an_error(2, mode, victim, scale)
    for victim in scale.choose((), (0, 1)):
        yield _ends_with_an_error(2, "no disk", victim, scale)


def _ends_as(alone: Mapping[str, Any] | None, num_ranks: int, mode: str, scale: Scale) -> Row:
    """All ranks hold the same at the end, and what one rank alone held, where that is given."""

    def outcome(folder: Path, ranks: list[Started]) -> tuple[str, str]:
        held = _held(ranks, folder)
        if any(rank.exit_code is None for rank in ranks):
            return "hung", "did not end"
        if len(held) != num_ranks:
            return "failed", _printed(folder)
        expected = alone or held[0]
        for number, each in enumerate(held):
            for name, value in expected.items():
                if each[name] != value:
                    return "silent", f"{name} differs on rank {number}"
        return "passed", ""

    return _row(f"{num_ranks} ranks, {mode}", num_ranks, mode, 1, scale, outcome)


def _ends_with_an_error(num_ranks: int, mode: str, victim: int, scale: Scale) -> Row:
    """A rank cannot go on: nor do the others, and they say so."""

    def outcome(folder: Path, ranks: list[Started]) -> tuple[str, str]:
        if not ranks[victim].wait(seconds=_HANGS_AFTER_S):
            return "failed", "nothing happened to the rank"
        died_at = time.monotonic()
        others = [rank for number, rank in enumerate(ranks) if number != victim]
        for rank in others:
            rank.wait(seconds=max(0.0, died_at + ENDS_WITHIN_S - time.monotonic()))
        if any(rank.exit_code is None for rank in others):
            return "hung", f"others went on for {ENDS_WITHIN_S:.0f} s: {_printed(folder)}"
        if any(rank.exit_code == 0 for rank in ranks):
            return "silent", "a rank ended as if all were well"
        if mode == "no disk" and "checkpoint_dir must be writable" not in _printed(folder):
            return "failed", _printed(folder)
        return ("refused" if mode == "no disk" else "passed"), ""

    return _row(f"2 ranks, rank {victim} {mode}", num_ranks, mode, victim, scale, outcome)


def _row(
    case: str,
    num_ranks: int,
    mode: str,
    victim: int,
    scale: Scale,
    outcome: Callable[[Path, list[Started]], tuple[str, str]],
) -> Row:
    started = time.perf_counter()
    folder = scale.folder / case.replace(" ", "_").replace(",", "")
    ranks = _fit(folder, num_ranks, mode, victim)
    try:
        found, note = outcome(folder, ranks)
    finally:
        for rank in ranks:
            rank.kill()
    seconds = time.perf_counter() - started
    return Row(section="ranks", case=case, tried=1, seconds=seconds, note=note, **{found: 1})


def _fit(folder: Path, num_ranks: int, mode: str, victim: int = -1) -> list[Started]:
    """Start all ranks, as a launcher of other machines does it: each by itself."""
    folder.mkdir(parents=True)
    port = _free_port()

    def one(rank: int) -> int:
        os.environ |= {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "WORLD_SIZE": str(num_ranks),
            "NODE_RANK": "0",
            "LOCAL_RANK": str(rank),
        }
        return rank_fit.main(folder, num_ranks, mode, victim)

    return [
        fork(lambda rank=rank: one(rank), folder=folder, log=folder / f"rank_{rank}.log")
        for rank in range(num_ranks)
    ]


def _held(ranks: list[Started], folder: Path) -> list[dict[str, Any]]:
    """What each rank that came to its end held there."""
    deadline = time.monotonic() + _HANGS_AFTER_S
    for rank in ranks:
        rank.wait(seconds=max(0.0, deadline - time.monotonic()))
    files = (folder / f"rank_{number}.json" for number in range(len(ranks)))
    return [json.loads(file.read_text()) for file in files if file.exists()]


def _printed(folder: Path) -> str:
    return "\n".join(log.read_text()[-1500:] for log in sorted(folder.glob("rank_*.log")))


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
