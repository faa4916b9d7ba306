"""The page of a run: one file that needs nothing but a browser."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_cost.report import cuts, sections
from lightning_cost.report.bits import bits
from lightning_cost.report.curves import cost_curve, metric_curve
from lightning_cost.report.files import read_report, write_text
from lightning_cost.report.frontier import frontier
from lightning_cost.report.markup import page
from lightning_cost.report.quantization import quantization
from lightning_cost.report.search import search

PAGE_NAME = "report.html"

_PARTS = (
    sections.header,
    sections.budget,
    sections.before_after,
    cost_curve,
    metric_curve,
    cuts.layers,
    cuts.ranking,
    cuts.steps,
    search,
    frontier,
    quantization,
    bits,
    sections.phases,
    sections.provenance,
    sections.parity,
    sections.spend,
    sections.environment,
)


def render_report(report: Mapping[str, Any]) -> str:
    """The page of one report, which must keep the schema, as HTML text."""
    title = f"{report['title'] or 'run'}: cost report"
    return page(title, *(part(report) for part in _PARTS))


def write_report(run_dir: str | Path) -> Path:
    """Write ``report.html`` beside the ``report.json`` of a run directory.

    Returns:
        The path of the page.

    Raises:
        ValueError: If ``run_dir`` holds no readable report of this version.
    """
    report = read_report(run_dir)
    return write_text(Path(run_dir) / PAGE_NAME, render_report(report))
