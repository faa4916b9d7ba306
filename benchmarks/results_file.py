"""How a benchmark tells what it found: JSON lines, a table, and files of both with the machine."""

import argparse
import json
import platform
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lightning_cost.hardware.fingerprint import machine_fingerprint

FOLDER = Path(__file__).parent / "results"


def argument_parser(
    description: str | None, *, seeds: Sequence[int], quick: str
) -> argparse.ArgumentParser:
    """A parser of the options that every benchmark has.

    Args:
        description: The benchmark's docstring.
        seeds: Seeds by default.
        quick: What is left out when ``--quick`` is given.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(seeds))
    parser.add_argument("--quick", action="store_true", help=quick)
    return parser


class ResultsFile:
    """The rows of one benchmark, printed as they come and saved at the end.

    Args:
        name: Of the benchmark, and of its folder under ``results``.
        quick: Whether this is a quick run; its files do not replace those of a full one.
        num_threads: Threads that the figures were taken with.
    """

    def __init__(self, name: str, *, quick: bool, num_threads: int = 1) -> None:
        self.rows: list[dict[str, Any]] = []
        self._name = name
        self._is_quick = quick
        self._num_threads = num_threads

    @property
    def context(self) -> dict[str, Any]:
        """The machine, the date and the versions that a figure taken now is of."""
        machine = machine_fingerprint()
        versions = {
            "python": platform.python_version(),
            "pytorch-lightning": version("pytorch-lightning"),
            **machine.pop("versions"),
        }
        return {
            **machine,
            "num_threads": self._num_threads,
            "date": datetime.now(timezone.utc).date().isoformat(),
            "versions": versions,
        }

    def progress(self, text: str) -> None:
        """Say on stderr what comes next."""
        print(f"{self._name}: {text}", file=sys.stderr, flush=True)

    def add(self, row: dict[str, Any]) -> None:
        """Keep a row ``{case, method, seed, figures with units in their names}`` and print it."""
        self.rows.append({**row, "quick": self._is_quick})
        print(json.dumps(self.rows[-1]), flush=True)

    def save(self, table: Sequence[str]) -> None:
        """Print the lines of ``table``; write them and the rows to the benchmark's folder."""
        lines = [*table, "quick run: not the figures to quote"] if self._is_quick else [*table]
        print("\n" + "\n".join(lines))
        folder, prefix = FOLDER / self._name, "quick_" if self._is_quick else ""
        folder.mkdir(parents=True, exist_ok=True)
        context = self.context
        # rows of an earlier run have their own
        rows = "".join(json.dumps({**context, **row}) + "\n" for row in self.rows)
        (folder / f"{prefix}results.jsonl").write_text(rows)
        (folder / f"{prefix}table.txt").write_text("\n".join([*lines, json.dumps(context)]) + "\n")


class Rows:
    """The rows of one seed in a file that a later run goes on with, each with its own context."""

    def __init__(self, path: Path, results: ResultsFile) -> None:
        self._path, self._results = path, results
        lines = path.read_text().splitlines() if path.exists() else []
        self.known = {(row["case"], row["method"]): row for row in map(json.loads, lines)}

    def get(self, case: str, method: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The row that is there, or else what ``make`` gives, saved."""
        if (case, method) not in self.known:
            self._results.progress(f"{self._path.stem}, {case}, {method}")
            row = {"case": case, "method": method, **make(), **self._results.context}
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a") as file:
                file.write(json.dumps(row) + "\n")
            self.known[case, method] = row
        return self.known[case, method]
