"""The runs of a sweep as rows, and which of them no other run beats."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from lightning_cost.cost.resource import Resource
from lightning_cost.report.files import REPORT_NAME, read_report
from lightning_cost.report.limits import broken_limits, broken_parity
from lightning_cost.report.quantities import is_better_when_lower

Direction: TypeAlias = Literal["min", "max"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepRow:
    """One run of a sweep.

    Args:
        run: Its directory relative to the sweep's.
        title: Its title.
        settings: The configuration entries in which the runs of the sweep differ.
        metric: The name of the deciding metric.
        values: The final network's number per resource, and per metric; ``None`` if not known.
        cost: The final network's cost, with provenance, as in the report.
        dense_cost: The dense network's.
        dense_metric: The dense network's deciding metric.
        limits: Of the model budget, by resource.
        broken: One sentence per limit that was not kept, and one if ``is_faithful`` is not.
        search: The search for its ranking; ``None`` where there was none.
        frontier: Networks along its ranking, where this run looked at them.
        spend: What it used, as in the report.
        is_faithful: Whether the deployed file computes what was trained.
    """

    run: str
    title: str
    settings: Mapping[str, Any]
    metric: str | None
    values: Mapping[str, float | None]
    cost: Mapping[str, Mapping[str, Any]]
    dense_cost: Mapping[str, Mapping[str, Any]]
    dense_metric: float | None
    limits: Mapping[str, float]
    broken: tuple[str, ...]
    search: Mapping[str, Any] | None = None
    frontier: tuple[Mapping[str, Any], ...] = ()
    spend: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    is_faithful: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Plain data, without the search, the frontier, the spend and ``is_faithful``."""
        data = asdict(replace(self, search=None, frontier=(), spend={}))
        del data["search"], data["frontier"], data["spend"], data["is_faithful"]
        return data | {"broken": list(self.broken)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """The runs of a sweep directory.

    Args:
        rows: The runs that can be compared.
        unreadable: Why each other run cannot be, by its directory.
        folder: The sweep's directory.
    """

    rows: tuple[SweepRow, ...]
    unreadable: Mapping[str, str]
    folder: Path

    def require_rows(self) -> None:
        """Refuse a directory without runs.

        Raises:
            ValueError: If no run has a readable report.
        """
        if not self.rows:
            reasons = "; ".join(self.unreadable.values()) or "no run directory in it"
            raise ValueError(
                f"sweep_dir must hold runs with a {REPORT_NAME}, got {self.folder} ({reasons}); "
                "give the directory that `lightning-cost fit -m` printed"
            )

    @property
    def frontiers(self) -> dict[str, tuple[Mapping[str, Any], ...]]:
        """Networks along each ranking, by the first run that looked at them."""
        found: dict[str, tuple[Mapping[str, Any], ...]] = {}
        for row in self.rows:
            if row.frontier and row.frontier not in found.values():
                found[row.run] = row.frontier
        return found

    @property
    def searches(self) -> dict[str, tuple[str, ...]]:
        """The runs that each search served, by the run that made it."""
        served: dict[str, list[str]] = {}
        makers: list[tuple[str, list[Any]]] = []
        for row in sorted(self.rows, key=lambda row: bool(row.search and row.search["is_reused"])):
            if row.search is None:
                continue
            losses = [trial["loss"] for trial in row.search["trials"]]
            alike = (run for run, made in makers if made == losses)
            maker = next(alike, None) if row.search["is_reused"] else None
            if maker is None:
                maker = row.run
                makers.append((maker, losses))
            served.setdefault(maker, []).append(row.run)
        return {maker: tuple(runs) for maker, runs in served.items()}


def collect(sweep_dir: str | Path) -> Sweep:
    """Every run below ``sweep_dir``, in the order of their names."""
    root = Path(sweep_dir)
    reports: dict[str, dict[str, Any]] = {}
    unreadable: dict[str, str] = {}
    for run in sorted(_run_dirs(root), key=lambda path: _natural(str(path.relative_to(root)))):
        name, report = str(run.relative_to(root)), _read(run)
        if isinstance(report, str):
            unreadable[name] = report
        else:
            reports[name] = report
    configs = {run: dict(report["config"]) for run, report in reports.items()}
    for config in configs.values():
        config.pop("run_dir", None)  # differs by nature
    settings = differences(configs)
    rows = tuple(_row(run, report, settings[run]) for run, report in reports.items())
    return Sweep(rows=rows, unreadable=unreadable, folder=root)


def pareto_front(
    rows: Sequence[Mapping[str, float | None]], objectives: Mapping[str, Direction]
) -> list[int]:
    """The positions of the rows that no other row beats in one objective and equals in the rest.

    A row that lacks one of the objectives is never on the front.

    Raises:
        ValueError: If there is no objective or a direction other than "min" and "max".

    >>> rows = [{"acc": 0.9, "ms": 2.0}, {"acc": 0.8, "ms": 1.0}, {"acc": 0.7, "ms": 1.5}]
    >>> pareto_front(rows, {"acc": "max", "ms": "min"})
    [0, 1]
    """
    if not objectives:
        raise ValueError("objectives must name at least one value, got none")
    for name, direction in objectives.items():
        if direction not in ("min", "max"):
            raise ValueError(f'objectives[{name!r}] must be "min" or "max", got {direction!r}')
    keys = [_key(row, objectives) for row in rows]
    return [
        index
        for index, mine in enumerate(keys)
        if mine is not None and not any(_beats(other, mine) for other in keys if other is not None)
    ]


def is_resource(name: str) -> bool:
    """Whether an objective is a cost, and not a metric."""
    return name in {resource.value for resource in Resource}


def default_objectives(rows: Sequence[SweepRow]) -> dict[str, Direction]:
    """The deciding metric against every resource that some run limits, or against the MACs."""
    limited = dict.fromkeys(name for row in rows for name in row.limits)
    objectives: dict[str, Direction] = dict.fromkeys(limited or ["macs"], "min")
    for metric in dict.fromkeys(row.metric for row in rows if row.metric):
        objectives[metric] = "min" if is_better_when_lower(metric) else "max"
    return objectives


def differences(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each run the dotted configuration entries that are not the same in all of them.

    >>> differences({"0": {"a": {"b": 1}, "c": 2}, "1": {"a": {"b": 3}, "c": 2}})
    {'0': {'a.b': 1}, '1': {'a.b': 3}}
    """
    flat = {run: dict(_flatten(config, "")) for run, config in configs.items()}
    names = dict.fromkeys(name for entries in flat.values() for name in entries)
    varying = [n for n in names if len({repr(entries.get(n)) for entries in flat.values()}) > 1]
    return {run: {name: entries.get(name) for name in varying} for run, entries in flat.items()}


def _run_dirs(root: Path) -> set[Path]:
    """Directories with a report, and those that Hydra made for a run that wrote none."""
    reported = {path.parent for path in root.rglob(REPORT_NAME)}
    started = {path.parent for path in root.rglob(".hydra") if path.is_dir()}
    return (reported | started) - {root}


def _read(run: Path) -> dict[str, Any] | str:
    """The report of a run, or why there is none that can be read."""
    try:
        return read_report(run)
    except ValueError as error:
        return str(error)


def _row(run: str, report: Mapping[str, Any], settings: Mapping[str, Any]) -> SweepRow:
    final, dense, metric = report["final"], report["dense"], report["metric"]
    pruning = report["pruning"] or {}
    parity = broken_parity(report)
    cost_values = {name: measurement["value"] for name, measurement in final["cost"].items()}
    return SweepRow(
        run=run,
        title=report["title"],
        settings=settings,
        metric=metric,
        values={**final["metrics"], **cost_values},
        cost=final["cost"],
        dense_cost=dense["cost"],
        dense_metric=dense["metrics"].get(metric) if metric else None,
        limits={name: entry["limit"] for name, entry in report["budget"].items()},
        broken=(*broken_limits(report), *([] if parity is None else [f"parity broken: {parity}"])),
        search=pruning.get("search"),
        frontier=tuple(pruning.get("frontier", ())),
        spend=report["spend"],
        is_faithful=parity is None,
    )


def _key(
    row: Mapping[str, float | None], objectives: Mapping[str, Direction]
) -> tuple[float, ...] | None:
    """The row's objectives, each to be made small."""
    key = []
    for name, direction in objectives.items():
        value = row.get(name)
        if value is None:
            return None
        key.append(value if direction == "min" else -value)
    return tuple(key)


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def _flatten(config: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    entries: list[tuple[str, Any]] = []
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            entries += _flatten(value, f"{prefix}{name}.")
        else:
            entries.append((f"{prefix}{name}", value))
    return entries


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that puts run 10 after run 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split("/")]
