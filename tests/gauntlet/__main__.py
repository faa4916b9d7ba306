"""The gauntlet: everything that tries to break a run, and a table of what came of it.

    python -m tests.gauntlet [--short] [--sections kills,ranks] [--seed N] [--results FILE]

Each section is a module ``tests.gauntlet.NAME`` with ``run(scale: Scale) -> Iterator[Row]``. Rows
are written to the file of results, one JSON object a line, as they come. Ends with 1 if anything
was lost, hung, silent or failed.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TextIO

from tests.gauntlet.row import Row
from tests.gauntlet.scale import Scale
from tests.gauntlet.table import table

SECTIONS = ("kills", "ranks", "inputs", "networks", "long_run", "repeat")
"""In the order in which they are run."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the gauntlet; the exit code."""
    given = _parsed(arguments)
    rows: list[Row] = []
    given.results.parent.mkdir(parents=True, exist_ok=True)
    with given.results.open("w", encoding="utf-8") as results:
        for name in given.sections:
            rows += _section(name, given, results)
    print(table(rows))
    print(given.results)
    return int(any(row.num_bad for row in rows) or not rows)


def _section(name: str, given: argparse.Namespace, results: TextIO) -> list[Row]:
    folder = Path(tempfile.mkdtemp(prefix=f"gauntlet_{name}_", dir=given.scratch))
    started, rows = time.perf_counter(), []
    for row in import_module(f"tests.gauntlet.{name}").run(
        Scale(is_short=given.short, seed=given.seed, folder=folder)
    ):
        rows.append(row)
        results.write(row.to_json() + "\n")
        results.flush()
        elapsed = time.perf_counter() - started
        print(f"[{elapsed:5.0f} s] {row.to_json()}", file=sys.stderr, flush=True)
    if any(row.num_bad for row in rows):
        print(f"what went wrong is left in {folder}", file=sys.stderr)
    else:
        shutil.rmtree(folder)
    return rows


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.gauntlet", description=__doc__)
    parser.add_argument("--short", action="store_true", help="what CI has time for")
    parser.add_argument(
        "--sections",
        type=lambda text: text.split(","),
        default=list(SECTIONS),
        help=f"some of {','.join(SECTIONS)}",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=Path("runs/gauntlet.jsonl"))
    parser.add_argument("--scratch", type=Path, help="where run directories go meanwhile")
    given = parser.parse_args(arguments)
    unknown = sorted({*given.sections} - {*SECTIONS})
    if unknown:
        parser.error(f"--sections must be of {', '.join(SECTIONS)}, got {', '.join(unknown)}")
    return given


if __name__ == "__main__":
    sys.exit(main())
