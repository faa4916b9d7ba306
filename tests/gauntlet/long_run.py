"""Thousands of epochs: what a process holds, and what an epoch takes, stay what they were."""

import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tests.gauntlet import long_fit
from tests.gauntlet.row import Row
from tests.gauntlet.scale import Scale
from tests.gauntlet.starting import fork, running

NUM_EPOCHS, NUM_EPOCHS_SHORT = 2000, 400
PHASES = ("recover", "quantize")
"""Each about half of the epochs; what holds in one is not compared with the other."""
MOST_BYTES_PER_100_EPOCHS = 1e6
MOST_SLOWER = 1.1
"""Of the median epoch in the last fifth of a phase against that in its first fifth, warm."""
_WARM_RATIO = 0.2
_HANGS_AFTER_S = 7200.0


def run(scale: Scale) -> Iterator[Row]:
    """One fit, and a row for each thing that must stay flat."""
    started = time.perf_counter()
    num_epochs = scale.choose(NUM_EPOCHS_SHORT, NUM_EPOCHS)
    log = scale.folder / "printed.log"
    work = partial(long_fit.main, scale.folder, num_epochs)
    with running(fork(work, folder=scale.folder, log=log)) as process:
        process.wait(seconds=_HANGS_AFTER_S)
    seconds = time.perf_counter() - started
    if process.exit_code != 0:
        note = f"ended with {process.exit_code}: {log.read_text()[-1500:]}"
        yield Row(section="long_run", case="fit", tried=1, failed=1, seconds=seconds, note=note)
        return
    for number, (case, is_flat, note) in enumerate(judged(scale.folder / "held.json")):
        yield Row(
            section="long_run",
            case=f"{num_epochs} epochs: {case}",
            tried=1,
            passed=int(is_flat),
            failed=int(not is_flat),
            seconds=0.0 if number else seconds,
            note=note,
        )


def judged(path: Path) -> Iterator[tuple[str, bool, str]]:
    """What must be flat in each phase, whether it is, and the figures."""
    rows = json.loads(path.read_text())
    for phase in PHASES:
        epochs = [row for row in rows if row["phase"] == phase]
        warm = epochs[int(len(epochs) * _WARM_RATIO) :]
        for name, is_flat, figures in _judged_phase(warm):
            yield f"{phase}, {name}", is_flat, figures


def _judged_phase(warm: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, bool, str]]:
    per_100 = 100 * slope([row["resident_bytes"] for row in warm])
    yield "memory", per_100 <= MOST_BYTES_PER_100_EPOCHS, f"{per_100 / 1e3:.0f} kB per 100 epochs"
    for name in ("files", "threads"):
        first, last = (max(row[name] for row in part) for part in (warm[:10], warm[-10:]))
        yield name, last <= first, f"{first} at first, {last} at last"
    ratio = slower(warm)
    told = [
        f"{statistics.median(row['cpu_s'] for row in part) * 1e3:.1f} ms at {when}"
        for part, when in zip(_ends(warm), ("first", "last"), strict=True)
    ]
    figures = f"{ratio:.3f} times as long at last, on a machine of one speed: {', '.join(told)}"
    yield "time of an epoch", ratio <= MOST_SLOWER, figures


def slower(rows: Sequence[Mapping[str, Any]]) -> float:
    """How many times as long an epoch takes at last as at first, in processor time.

    Beside each epoch stands what the same work took right after it: where that takes longer too,
    it is the machine that has become slower (others share its caches and its clock).
    """
    first, last = (
        [statistics.median(row[name] for row in part) for name in ("cpu_s", "same_cpu_s")]
        for part in _ends(rows)
    )
    return (last[0] / first[0]) / (last[1] / first[1])


def _ends(rows: Sequence[Mapping[str, Any]]) -> tuple[Sequence[Mapping[str, Any]], ...]:
    """The first and the last fifth."""
    fifth = max(1, len(rows) // 5)
    return rows[:fifth], rows[-fifth:]


def slope(values: Sequence[float]) -> float:
    """By how much ``values`` rise from one to the next, by least squares.

    >>> slope([3.0, 5.0, 7.0])
    2.0
    """
    return statistics.linear_regression(range(len(values)), values).slope
