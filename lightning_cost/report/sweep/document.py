"""Builds, writes and reads ``sweep.json``, which the page of a sweep is made of."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_cost.report.files import read_document, write_text
from lightning_cost.report.schema import load_schema, schema_violations
from lightning_cost.report.study.record import Study
from lightning_cost.report.sweep.best import best_runs
from lightning_cost.report.sweep.rows import (
    Direction,
    Sweep,
    default_objectives,
    is_resource,
    pareto_front,
)
from lightning_cost.report.sweep.spend import left_out, saved_spend, total_spend

SWEEP_NAME = "sweep.json"
SWEEP_VERSION = 1
SCHEMA_NAME = "sweep_schema.json"


def build_document(sweep: Sweep, study: Study | None = None) -> dict[str, Any]:
    """What is known of a sweep as JSON-compatible data that keeps ``sweep_schema.json``.

    Args:
        sweep: Its runs.
        study: The study that chose them, where there is one.

    Raises:
        ValueError: If there is neither a run nor a trial.
    """
    if study is None or not study.trials:
        sweep.require_rows()
    objectives = weighed(sweep, study)
    front = set(pareto_front([row.values for row in sweep.rows], objectives))
    totals = total_spend(sweep.rows)
    limits = [study.limits] if study is not None else []
    num_infeasible = 0 if study is None else len(study.of_state("infeasible"))
    document = {
        "schema_version": SWEEP_VERSION,
        "objectives": objectives,
        "runs": [
            {**row.to_dict(), "on_front": index in front} for index, row in enumerate(sweep.rows)
        ],
        "best": [each.to_dict() for each in best_runs(sweep.rows, objectives, limits)],
        "spend": totals,
        "saved": saved_spend(totals, num_infeasible),
        "left_out": left_out(study),
        "searches": sweep.searches,
        "frontiers": sweep.frontiers,
        "unreadable": dict(sweep.unreadable),
        "study": None if study is None else study.to_dict(),
    }
    # tuples are lists in the document, as they are when it is read
    plain: dict[str, Any] = json.loads(json.dumps(document, allow_nan=False))
    for problem in sweep_violations(plain):
        raise ValueError(f"{problem}; docs/report.md says what {SWEEP_NAME} holds")
    return plain


def weighed(sweep: Sweep, study: Study | None) -> dict[str, Direction]:
    """The limited resources, and the objectives of the study or the runs' deciding metric."""
    if study is None:
        return default_objectives(sweep.rows)
    limited = [*study.limits, *(name for row in sweep.rows for name in row.limits)]
    objectives: dict[str, Direction] = {**dict.fromkeys(limited, "min"), **study.objectives}
    if all(map(is_resource, objectives)):
        objectives |= {
            name: direction
            for name, direction in default_objectives(sweep.rows).items()
            if not is_resource(name)
        }
    return objectives


def save_document(document: Mapping[str, Any], sweep_dir: str | Path) -> Path:
    """Write ``sweep.json``."""
    text = json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False)
    return write_text(Path(sweep_dir) / SWEEP_NAME, text + "\n")


def read_sweep(sweep_dir: str | Path) -> dict[str, Any]:
    """The checked document of a sweep directory.

    Raises:
        ValueError: If there is none, or one that is cut off, of another version, or not what the
            schema asks for.
    """
    path = Path(sweep_dir) / SWEEP_NAME
    if not path.is_file():
        raise ValueError(
            f"sweep_dir must be a sweep's directory with a {SWEEP_NAME}, got {sweep_dir}; "
            "it is written when a sweep ends"
        )
    return read_document(path, SWEEP_VERSION, sweep_violations)


def sweep_violations(document: object) -> list[str]:
    """Every place where a document breaks the schema of ``sweep.json``."""
    return list(schema_violations(document, load_schema(SCHEMA_NAME), "sweep"))
