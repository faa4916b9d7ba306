"""What a job of a sweep says when it has ended, for the process that launched it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from lightning_cost.report.files import write_text

_FOLDER = ".jobs"


@dataclass(frozen=True, kw_only=True, slots=True)
class JobRecord:
    """How a job ended.

    Args:
        exit_code: As of the command line.
        error: What it said of bad input.
        pid: Of the process that it ran in.
    """

    exit_code: int
    error: str | None = None
    pid: int = 0

    def save(self, sweep_dir: Path, name: str) -> None:
        """Keep it under the name of the job's run directory."""
        folder = records_dir(sweep_dir)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / f"{name}.json", json.dumps(asdict(self)))


def records_dir(sweep_dir: Path) -> Path:
    """Where the jobs of a sweep leave what only its processes read."""
    return sweep_dir / _FOLDER


def record_times(sweep_dir: Path) -> dict[str, int]:
    """When each job of a sweep ended last, in nanoseconds of the file system's clock."""
    return {path.stem: path.stat().st_mtime_ns for path in records_dir(sweep_dir).glob("*.json")}


def records_since(sweep_dir: Path, before: dict[str, int]) -> dict[str, JobRecord]:
    """The jobs that ended after ``before`` was taken, by name; what cannot be read is left out."""
    found = {}
    for name, time in sorted(record_times(sweep_dir).items()):
        if before.get(name) == time:
            continue
        try:
            content = json.loads((records_dir(sweep_dir) / f"{name}.json").read_text())
            found[name] = JobRecord(**content)
        except (OSError, ValueError, TypeError):
            continue
    return found
