"""Thousands of epochs: what a process holds, and what an epoch takes, stay what they were."""

import json
import statistics
import time
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

from tests.gauntlet import long_fit
from tests.gauntlet.row import Row
from tests.gauntlet.scale import Scale
from tests.gauntlet.starting import fork, running

NUM_EPOCHS, NUM_EPOCHS_SHORT = 2000, 200
MOST_BYTES_PER_100_EPOCHS = 1e6
MOST_SLOWER = 1.5
"""Of the median epoch in the last fifth against that in the first fifth after the warm-up."""
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
    """What must be flat, whether it is, and the figures."""
    rows = json.loads(path.read_text())
    warm = rows[int(len(rows) * _WARM_RATIO) :]
    per_100 = 100 * slope([row["resident_bytes"] for row in warm])
    yield "memory", per_100 <= MOST_BYTES_PER_100_EPOCHS, f"{per_100 / 1e3:.0f} kB per 100 epochs"
    for name in ("files", "threads"):
        first, last = (max(row[name] for row in part) for part in (warm[:10], warm[-10:]))
        yield name, last <= first, f"{first} at first, {last} at last"
    takes = [after["cpu_s"] - before["cpu_s"] for before, after in pairwise(warm)]
    fifth = len(takes) // 5
    first_s, last_s = statistics.median(takes[:fifth]), statistics.median(takes[-fifth:])
    figures = f"{first_s * 1e3:.1f} ms at first, {last_s * 1e3:.1f} ms at last"
    yield "time of an epoch", last_s <= MOST_SLOWER * first_s, figures


def slope(values: Sequence[float]) -> float:
    """By how much ``values`` rise from one to the next, by least squares.

    >>> slope([3.0, 5.0, 7.0])
    2.0
    """
    return statistics.linear_regression(range(len(values)), values).slope
