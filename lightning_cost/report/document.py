"""Builds the content of ``report.json``: everything a run has to say, as plain data."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from enum import Enum
from typing import Any

from lightning_cost.cost.measurement import Cost, Measurement, cost_to_dict
from lightning_cost.cost.resource import Resource
from lightning_cost.report.limits import model_limits, training_limits_of
from lightning_cost.report.phases import phases_of
from lightning_cost.report.schema import SCHEMA_VERSION, violations
from lightning_cost.report.spend import complete_spend


@dataclass(kw_only=True, slots=True)
class RunFacts:
    """What was run, where and on what.

    Args:
        command: The command line, or how the Trainer was called.
        title: A short name for people, such as ``"resnet20 on fashion_mnist"``.
        config: The resolved configuration, as plain data.
        seed: The run's seed, where one was set.
        versions: Version of each package that matters, by name.
        device: ``name``, ``cpu``, ``threads``, ``runtime`` and ``fingerprint``.
        data: ``name``, ``hash`` and ``split_sizes``.
        metric: The name of the metric that decides, among those in the stages' ``metrics``.
        stop_reason: Why the fit ended.
        artifacts: Path of each file relative to the run directory; ``None`` if not written.
        note: A remark that heads the page.
        created: Time of the report; now, when not given.
    """

    command: str
    title: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    device: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    metric: str | None = None
    stop_reason: str | None = None
    artifacts: Mapping[str, str | None] = field(default_factory=dict)
    note: str | None = None
    created: datetime = field(default_factory=lambda: datetime.now(timezone.utc))


@dataclass(kw_only=True, slots=True)
class Stage:
    """One network of the run, the dense or the final one, as deployed.

    Args:
        cost: What it costs.
        metrics: What it achieves, by name.
        latency_by_runtime: Its latency on every runtime that was tried.
        widths: Channels of each layer, (before, after); of the final network only.
        bits: Bits of each quantised layer's weights; of the final network only.
    """

    cost: Cost
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    latency_by_runtime: Mapping[str, Measurement] = field(default_factory=dict)
    widths: Mapping[str, Sequence[int]] = field(default_factory=dict)
    bits: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, without the fields that belong to the final network only."""
        latencies = {name: value.to_dict() for name, value in self.latency_by_runtime.items()}
        return {
            "cost": cost_to_dict(self.cost),
            "metrics": dict(self.metrics),
            "latency_by_runtime": latencies,
        }


def build_report(
    run: RunFacts,
    *,
    dense: Stage,
    final: Stage,
    limits: Mapping[Resource, float],
    history: Sequence[Mapping[str, Any]],
    spend: Mapping[str, Mapping[str, Any]],
    training_limits: Mapping[str, float] | None = None,
    base: Cost | None = None,
    dense_in_fit: Cost | None = None,
    pruning: Mapping[str, Any] | None = None,
    quantization: Mapping[str, Any] | None = None,
    parity: Mapping[str, Any] | None = None,
    not_counted: Iterable[str] = (),
) -> dict[str, Any]:
    """The report of a run as JSON-compatible data that keeps ``schema.json``.

    Args:
        run: What was run, where and on what.
        dense: The network before compression.
        final: The network that the run delivers.
        limits: The model budget, resolved to the resources' units.
        history: Rows ``{epoch, step, seconds, phase, cost, metrics}``, one per epoch end, with
            ``seconds`` counted from the beginning of the run.
        spend: What the run used: ``{name: {value, method, assumptions}}``, as
            ``report.spend.spend_entries`` gives; a name left out is reported as not recorded.
        training_limits: The training budget: ``wall_clock_s``, ``flops``, ``energy_kwh``,
            ``usd`` or ``co2_kg``.
        base: What percentages of the budget are of: the dense network on what the final one is
            delivered for, measured beside it.
        dense_in_fit: The dense network as ``history`` measured it, when the fit began; the cost of
            ``dense`` where it is not given.
        pruning: Which channels went, and why, as ``recipe.pruned`` gives it.
        quantization: What became of its bits, as ``recipe.quantized`` gives it.
        parity: How the deployed network's outputs compare with PyTorch's.
        not_counted: What no number includes, beyond the ``unsupported`` of the costs.

    Raises:
        ValueError: If a cost, a limit or another number that must be finite is not, or if a
            field is not of the type that the schema asks for.
    """
    stages = {"dense": dense.to_dict(), "final": final.to_dict()}
    stages["final"] |= {"widths": dict(final.widths), "bits": dict(final.bits)}
    rows = [dict(row) for row in history]
    spent = complete_spend(spend)
    report = _plain(
        {
            "schema_version": SCHEMA_VERSION,
            "created": run.created.isoformat(timespec="seconds"),
            "title": run.title,
            "note": run.note,
            "command": run.command,
            "config": run.config,
            "seed": run.seed,
            "versions": run.versions,
            "device": _with_defaults(run.device, cpu=None, threads=None, runtime=None),
            "data": {"name": None, "hash": None, "split_sizes": {}, **run.data},
            "metric": run.metric,
            **stages,
            "budget": model_limits(limits, final.cost, base or dense.cost),
            "training_budget": training_limits_of(training_limits or {}, spent),
            "stop_reason": run.stop_reason,
            "phases": phases_of(rows, cost_to_dict(dense_in_fit or dense.cost), run.metric),
            "pruning": pruning,
            "quantization": quantization,
            "spend": spent,
            "history": rows,
            "parity": parity,
            "artifacts": run.artifacts,
            "not_counted": sorted({*not_counted, *_unsupported(dense), *_unsupported(final)}),
        }
    )
    for problem in violations(report):
        raise ValueError(f"{problem}; docs/report.md says what a report holds")
    checked: dict[str, Any] = report
    return checked


def _unsupported(stage: Stage) -> set[str]:
    return {
        f"{name} (not in {resource.value})"
        for resource, measurement in stage.cost.items()
        for name in measurement.unsupported
    }


def _with_defaults(device: Mapping[str, Any], **defaults: Any) -> dict[str, Any]:
    return {"name": "not described", **defaults, "fingerprint": {}, **device}


def _plain(value: Any) -> Any:
    """JSON-compatible data; a number that is not finite becomes ``None``."""
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(_plain(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):  # a scalar of numpy or torch
        return _plain(value.item())
    return str(value)
