"""Kill and resume: a fit that is killed again and again ends as if nothing had been.

Each command is first run without interruption. Then it is started anew and killed at moments that
are spread over its whole length, by the processor time that it uses, and gone on with after each
kill; when it has come to its end, that is compared with the first.
"""

import os
import random
import re
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from itertools import count
from pathlib import Path

from tests.gauntlet.commands import COMMANDS, Command
from tests.gauntlet.killing import KILLS, POWER_CUT, tear_newest
from tests.gauntlet.lost_work import LostWork
from tests.gauntlet.row import Row
from tests.gauntlet.scale import Scale
from tests.gauntlet.starting import fresh, running

KILLS_PER_RUN = 7
NUM_KILLS = {
    "fit": 50,
    "fit, two ranks": 5,
    "sweep": 10,
    "fit, bf16": 20,
    "ema": 25,
    "adamw": 25,
    "accumulated": 25,
    "ema adamw bf16 accumulated": 40,
}
"""By the name of the command: 200 in all."""
NUM_KILLS_SHORT = {"fit": 7, "ema adamw bf16 accumulated": 3}
_HANGS_AFTER_S = 900.0
_IMPORTED = ("onnx", "onnxruntime", "onnxscript", "torch.onnx", "torch._dynamo")
_STARTING_RATIO = 0.15
"""Share of the kills of a process that is still starting."""
_FRESH_RATIO = 0.1
"""Share of the processes that are no forks."""


def run(scale: Scale) -> Iterator[Row]:
    """Kill each command until there are enough kills; one row each time that one came to its end.

    The rows of one command have one case.
    """
    _import_everything()
    for command in COMMANDS:
        num_kills = scale.choose(NUM_KILLS_SHORT, NUM_KILLS).get(command.name, 0)
        folder = scale.folder / re.sub(r"\W+", "_", command.name)
        if num_kills:
            yield from killed(command, num_kills, scale.seed, folder)


@dataclass
class Chain:
    """One command that is killed and gone on with until it has ended.

    Args:
        outcome: As in a row.
        kills: How it was killed, in order.
        note: What went wrong.
    """

    outcome: str = "passed"
    kills: list[str] = field(default_factory=list)
    note: str = ""


def killed(command: Command, num_kills: int, seed: int, folder: Path) -> Iterator[Row]:
    """Kill one command so often; what went wrong is left in ``folder``."""
    whole = folder / "whole"
    length = _uninterrupted(command, whole)
    num_done = 0
    for number in count():
        started = time.perf_counter()
        drawn = random.Random(f"{seed} {command.name} {number}")
        place = folder / str(number)
        num_now = min(KILLS_PER_RUN, num_kills - num_done)
        chain = _chain(command, whole, place, length, num_now, drawn)
        if chain.outcome == "passed":
            shutil.rmtree(place)
        num_done += len(chain.kills)
        yield Row(
            section="kills",
            case=command.name,
            tried=len(chain.kills),
            seconds=time.perf_counter() - started,
            note=f"{number}: {', '.join(chain.kills)}: {chain.note or chain.outcome}",
            **{chain.outcome: len(chain.kills)},
        )
        if num_done >= num_kills:
            return


def _uninterrupted(command: Command, folder: Path) -> float:
    """Carry the command out once; the seconds of processor time that it took."""
    folder.mkdir(parents=True)
    with running(command.start(folder, is_fresh=command.is_always_fresh)) as process:
        process.wait(seconds=_HANGS_AFTER_S)
    if process.exit_code != 0:
        printed = (folder / "printed.log").read_text()[-2000:]
        raise RuntimeError(f"{command.name} must end by itself, got {process.exit_code}: {printed}")
    return process.used_s - command.is_always_fresh * _imports_s()


def _chain(
    command: Command,
    whole: Path,
    folder: Path,
    length: float,
    num_kills: int,
    drawn: random.Random,
) -> Chain:
    folder.mkdir(parents=True)
    chain, lost = Chain(), defaultdict[str, LostWork](LostWork)
    progress = [(number + drawn.random()) / num_kills for number in range(num_kills)]
    before = 0.0
    for reached in [*progress, None]:
        is_fresh = drawn.random() < _FRESH_RATIO or command.is_always_fresh
        with running(command.start(folder, is_fresh=is_fresh)) as process:
            moment = float("inf")
            if reached is not None:
                moment = (reached - before) * length
                if drawn.random() < _STARTING_RATIO:
                    moment, reached = drawn.random() * min(moment, 1.0), before
                moment += is_fresh * _imports_s()
                before = reached
            if not process.wait(cpu_s=moment, seconds=_HANGS_AFTER_S):
                return _bad(chain, "hung", f"did not end in {_HANGS_AFTER_S:.0f} s")
            if process.exit_code is None:
                kind = drawn.choice(list(KILLS))
                KILLS[kind](process, drawn)
                chain.kills.append(kind)
                run_dirs = command.run_dirs(folder)
                # what a finished run left was on the disk before it said so
                if kind == POWER_CUT and not command.is_finished(run_dirs[-1]):
                    tear_newest(run_dirs[-1], drawn)
                # any of them: a sweep begins the next run where one failed for lack of memory
                for run_dir in run_dirs:
                    lost[run_dir.name].killed(run_dir)
            elif process.exit_code != 0:
                printed = (folder / "printed.log").read_text()[-1500:]
                return _bad(chain, "lost", f"ended with {process.exit_code}: {printed}")
        if command.is_done(folder):
            break
    try:
        flops = {name: each.flops for name, each in lost.items()}
        differences = list(command.differences(whole, folder, flops))
    except Exception as error:
        return _bad(chain, "failed", f"what it left cannot be compared: {error!r}")
    if differences:
        return _bad(chain, "silent", "; ".join(differences[:5]))
    return chain


def _bad(chain: Chain, outcome: str, note: str) -> Chain:
    chain.outcome, chain.note = outcome, note
    return chain


def _import_everything() -> None:
    """What a fit imports on its way: done once, here, for all forks."""
    for name in _IMPORTED:
        import_module(name)


@cache
def _imports_s() -> float:
    """Seconds of processor time that a process of its own spends on what forks have already."""
    command = f"import lightning_cost.cli, {', '.join(_IMPORTED)}"
    process = fresh(["-c", command], folder=Path(), log=Path(os.devnull))
    process.wait(seconds=_HANGS_AFTER_S)
    return process.used_s
