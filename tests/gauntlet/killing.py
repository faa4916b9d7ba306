"""The ways in which a process ends before its work does."""

import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from lightning_cost.recipe.run_dir import FINAL_NAME, LAST_NAME, PREVIOUS_NAME
from tests.gauntlet.starting import Started

Kill: TypeAlias = Callable[[Started, random.Random], None]
"""Ends a process; it has ended when this returns."""

POWER_CUT = "power cut"

GRACE_S = 20.0
"""How long a process may take to end by itself, as schedulers give it."""


def sigkill(started: Started, drawn: random.Random) -> None:
    """At once."""
    started.kill()


def sigterm(started: Started, drawn: random.Random) -> None:
    """As a scheduler does it: asked to end, and killed if it takes its time."""
    started.signal(signal.SIGTERM)
    started.wait(seconds=GRACE_S)
    started.kill()


def sigint(started: Started, drawn: random.Random) -> None:
    """As someone at the keyboard does it, who loses patience."""
    started.signal(signal.SIGINT)
    started.wait(seconds=GRACE_S)
    started.kill()


def memory_limit(started: Started, drawn: random.Random) -> None:
    """No more memory is to be had, from one allocation on; then the kernel ends it."""
    if not started.ended():
        started.limit_memory(drawn.choice([0, 1 << 20, 1 << 24]))
    started.wait(seconds=GRACE_S / 4)
    started.kill()


def tear_newest(run_dir: Path, drawn: random.Random) -> None:
    """Leave a newest checkpoint as after a power cut: not whole, if there is one before it."""
    names = (FINAL_NAME, LAST_NAME, PREVIOUS_NAME)
    left = [run_dir / name for name in names if (run_dir / name).exists()]
    if len(left) < 2:
        return
    content = left[0].read_bytes()
    size = drawn.randrange(len(content))
    zeros = bytes(len(content) - size) if drawn.random() < 0.5 else b""
    left[0].unlink()  # it may share its content with the one before
    left[0].write_bytes(content[:size] + zeros)


KILLS: dict[str, Kill] = {
    "SIGKILL": sigkill,
    "SIGTERM": sigterm,
    "SIGINT": sigint,
    "memory limit": memory_limit,
    POWER_CUT: sigkill,
}
