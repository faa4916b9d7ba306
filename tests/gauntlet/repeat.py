"""A run again: the same command, and the run's own directory, give the same end."""

import time
from collections.abc import Iterator
from pathlib import Path

from lightning_cost import cli
from tests.gauntlet.commands import PIPELINE
from tests.gauntlet.ends import FLOPS, run_differences
from tests.gauntlet.row import Row
from tests.gauntlet.scale import Scale
from tests.gauntlet.starting import fork, fresh, running

_HANGS_AFTER_S = 900.0


def run(scale: Scale) -> Iterator[Row]:
    """Each way of repeating a run, against the run."""
    whole = scale.folder / "whole"
    printed = _fit(["fit", *PIPELINE, "run_dir=run"], whole, is_fresh=False)
    if printed is not None:
        raise RuntimeError(f"a run must come to its end, got: {printed}")
    again = ["fit", *PIPELINE, "run_dir=run"]
    repeated = ["fit", "--config-path", str(whole / "run"), "run_dir=run"]
    cases = {"by its directory": (repeated, False), "the same command": (again, False)}
    if not scale.is_short:
        cases["the same command, another process"] = (again, True)
    for case, (words, is_fresh) in cases.items():
        yield _row(case, words, whole, scale.folder / case.replace(" ", "_"), is_fresh=is_fresh)


def _row(case: str, words: list[str], whole: Path, folder: Path, *, is_fresh: bool) -> Row:
    started = time.perf_counter()
    note = _fit(words, folder, is_fresh=is_fresh)
    outcome = "failed"
    if note is None:
        nothing = dict.fromkeys(FLOPS, 0.0)
        differences = run_differences(whole / "run", folder / "run", nothing)
        outcome, note = ("silent" if differences else "passed"), "; ".join(differences[:5])
    seconds = time.perf_counter() - started
    return Row(section="repeat", case=case, tried=1, seconds=seconds, note=note, **{outcome: 1})


def _fit(words: list[str], folder: Path, *, is_fresh: bool) -> str | None:
    """Carry it out; what it printed if it failed."""
    folder.mkdir(parents=True)
    log = folder / "printed.log"
    process = (
        fresh(["-m", "lightning_cost.cli", *words], folder=folder, log=log)
        if is_fresh
        else fork(lambda: cli.main(words), folder=folder, log=log)
    )
    with running(process):
        process.wait(seconds=_HANGS_AFTER_S)
    return None if process.exit_code == 0 else log.read_text()[-1500:]
