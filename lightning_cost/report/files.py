"""Reading and writing ``report.json`` and its like; a reader never sees half a file."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lightning_cost.cost.documents import UnreadableError, read_json
from lightning_cost.network.whole_file import whole_file
from lightning_cost.report.schema import SCHEMA_VERSION, violations

REPORT_NAME = "report.json"


def write_text(path: Path, text: str) -> Path:
    """Write ``text`` to ``path`` in one step, so that a crash leaves the old file or the new."""
    with whole_file(path) as file:
        file.write(text.encode())
    return path


def save_report(report: Mapping[str, Any], run_dir: str | Path) -> Path:
    """Write ``report`` to ``run_dir/report.json``."""
    text = json.dumps(report, indent=1, allow_nan=False, ensure_ascii=False)
    return write_text(Path(run_dir) / REPORT_NAME, text + "\n")


def read_report(run_dir: str | Path) -> dict[str, Any]:
    """The checked report of a run directory.

    Raises:
        ValueError: If there is no ``report.json``, or one that is cut off, of another version, or
            not what the schema asks for.
    """
    path = Path(run_dir) / REPORT_NAME
    if not path.is_file():
        raise ValueError(
            f"run_dir must be a run directory with a {REPORT_NAME}, got {run_dir}; "
            "the report is written when a fit ends"
        )
    return read_document(path, SCHEMA_VERSION, _problems)


def _problems(report: Any) -> Iterator[str]:
    """Where a report breaks its schema, or else contradicts itself."""
    broken = list(violations(report))
    yield from broken
    if broken or report["pruning"] is None:
        return
    names = {group["name"] for group in report["pruning"]["groups"]}
    for place, step in enumerate(report["pruning"]["steps"]):
        if len(step["kept"]) != len(names):
            yield (
                f"report.pruning.steps[{place}].kept must have a number for each of the "
                f"{len(names)} groups, got {len(step['kept'])}"
            )


def read_document(
    path: Path, version: int, problems: Callable[[object], Iterable[str]]
) -> dict[str, Any]:
    """The checked JSON document at ``path``.

    Args:
        path: Of a file that is there.
        version: That its ``schema_version`` must be.
        problems: Says where a document breaks its schema.

    Raises:
        ValueError: If it is cut off, of another version, or not what the schema asks for.
    """
    try:
        document = read_json(path)
    except UnreadableError as error:
        raise ValueError(
            f"{path} must be a whole JSON document, got {error}; copy it again, or run it anew"
        ) from error
    found = document.get("schema_version") if isinstance(document, dict) else None
    if found != version:
        raise ValueError(
            f"{path} must have schema_version {version}, got {found!r}; "
            "read it with the version of lightning-cost that wrote it"
        )
    for problem in problems(document):
        raise ValueError(f"{path}: {problem}; docs/report.md says what a report holds")
    checked: dict[str, Any] = document
    return checked
