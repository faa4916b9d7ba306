"""What a finished run is reported as: both networks deployed, measured and read."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from pytorch_lightning.callbacks import Callback
from torch import nn

from lightning_cost.budget.callback import BudgetStopping
from lightning_cost.cost.measurement import Cost
from lightning_cost.cost.resource import Resource
from lightning_cost.monitor.callback import CostMonitor
from lightning_cost.network.deploy import deployed_copy
from lightning_cost.network.lineage import lineage_of
from lightning_cost.network.participants import callbacks_of
from lightning_cost.pruning.callback import GlobalRankingPruning
from lightning_cost.quantization.prepare import PrepareQuantization
from lightning_cost.recipe.config import RunConfig
from lightning_cost.recipe.data import batches_of, facts_of
from lightning_cost.recipe.deployment import (
    as_delivered,
    cost_of,
    deliver,
    fastest,
    latencies_of,
    remark_on,
    settle,
)
from lightning_cost.recipe.layers import layer_bits, layer_widths
from lightning_cost.recipe.pruned import pruning_record
from lightning_cost.recipe.quantized import PACKED_NAME, quantization_record
from lightning_cost.recipe.revision import git_revision
from lightning_cost.recipe.run_dir import DENSE_ONNX_NAME, FINAL_NAME, ONNX_NAME
from lightning_cost.report.document import RunFacts, Stage, build_report
from lightning_cost.report.spend import spend_entries
from lightning_cost.runtime.latency import Latencies
from lightning_cost.zoo.classifier import ImageClassifier

METRIC = "val/accuracy"
"""What the run is watched by; the test part is read once, at the end."""
TEST_METRIC = "test/accuracy"
_PACKAGES = (
    "lightning-cost",
    "torch",
    "pytorch-lightning",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "openvino",
)


def report_of(
    config: RunConfig,
    run_dir: Path,
    trainer: pl.Trainer,
    dense: nn.Module,
    module: ImageClassifier,
    data: pl.LightningDataModule,
    resolved: str,
) -> dict[str, Any]:
    """Deploy the dense and the trained network, read them once on the test part, and report.

    Args:
        config: Of the run.
        run_dir: Where the deployed files go.
        trainer: After the fit.
        dense: The network as it was before its first structural change.
        module: After the fit.
        data: Of the fit.
        resolved: The whole configuration as YAML text.
    """
    callbacks = callbacks_of(trainer)
    monitor = next(entry for entry in callbacks if isinstance(entry, CostMonitor))
    stopping = next(entry for entry in callbacks if isinstance(entry, BudgetStopping))
    data.setup("test")
    splits = {TEST_METRIC: batches_of(data, "test"), METRIC: batches_of(data, "val")}
    evaluation = {metric: batches for metric, batches in splits.items() if batches}
    example = evaluation[METRIC][0][0][:1]
    network = module.network.cpu()
    is_quantized = any(isinstance(c, PrepareQuantization) for c in lineage_of(network))
    latencies = latencies_of({"dense": dense, "final": network}, example, config.hardware)
    latency = as_delivered(latencies["final"], config.hardware)
    base = monitor.dense or {}
    if latency is not None and config.budget.needs_hardware:
        base = _settled(config, latencies, {"dense": dense, "final": network}, example, base)
        latency = as_delivered(latencies["final"], config.hardware)
    after = deliver(
        network,
        run_dir / ONNX_NAME,
        hardware=config.hardware,
        latency=latency,
        evaluation=evaluation,
        is_quantized=is_quantized,
    )
    dense_name, dense_latency = DENSE_ONNX_NAME, fastest(latencies["dense"])
    if lineage_of(network):
        before = deliver(
            dense,
            run_dir / dense_name,
            hardware=config.hardware,
            latency=dense_latency,
            evaluation=evaluation,
            is_quantized=False,
        )
    else:  # one network, one file
        dense_name = ONNX_NAME
        cost = cost_of(dense, example, hardware=config.hardware, latency=dense_latency)
        before = replace(after, cost=cost)
    device, facts = config.hardware.fingerprint(), facts_of(data)
    return build_report(
        RunFacts(
            command=shlex.join(["lightning-cost", *sys.argv[1:]]),
            title=f"{type(network).__name__} on {facts['name']}",
            config=_as_dict(resolved),
            seed=config.seed,
            versions=_versions(),
            device={
                "name": config.hardware.name,
                "cpu": device.get("cpu"),
                "threads": config.hardware.num_threads,
                "runtime": after.runtime,
                "fingerprint": device,
            },
            data=facts,
            metric=METRIC,
            note=remark_on(latencies["final"], latency),
            stop_reason=_stop_reason(callbacks, stopping),
            artifacts={
                "onnx": ONNX_NAME,
                "checkpoint": FINAL_NAME,
                "html": "report.html",
                "dense_onnx": dense_name,
                "packed": PACKED_NAME if is_quantized else None,
            },
        ),
        dense=Stage(
            cost=before.cost,
            metrics=before.metrics,
            latency_by_runtime=latencies["dense"].measured,
        ),
        final=Stage(
            cost=after.cost,
            metrics=after.metrics,
            latency_by_runtime=latencies["final"].measured,
            widths=layer_widths(dense, network),
            bits=layer_bits(network),
        ),
        limits=config.budget.limits(base or before.cost),
        history=monitor.history,
        spend=spend_entries(
            monitor.update_spend().to_dict(),
            _assumptions(monitor, callbacks),
            estimated=monitor.meter.estimated,
        ),
        training_limits=config.training.limits(),
        base=base or before.cost,
        dense_in_fit=monitor.dense,
        pruning=pruning_record(
            trainer,
            dense,
            example,
            dense_cost=base or before.cost,
            metric=METRIC,
            batches=evaluation[METRIC],
        ),
        quantization=quantization_record(
            trainer,
            network,
            dense,
            example,
            run_dir,
            metric=METRIC,
            batches=evaluation[METRIC],
        ),
        parity=asdict(after.parity) | {"runtime": after.runtime},
        not_counted=[
            f"latency of the {stage} network on {runtime}: {reason}"
            for stage, found in latencies.items()
            for runtime, reason in found.failures.items()
        ]
        + [f"{name} (not in train_flops)" for name in monitor.meter.training.unsupported]
        + [f"{name} (not in eval_flops)" for name in monitor.meter.evaluation.unsupported],
    )


def _stop_reason(callbacks: list[Callback], stopping: BudgetStopping) -> str | None:
    """Why the fit ended, and what pruning left out or took back on the way."""
    remarks = [
        remark
        for callback in callbacks
        if isinstance(callback, GlobalRankingPruning)
        for remark in callback.remarks
    ]
    reasons = [] if stopping.stop_reason is None else [stopping.stop_reason]
    return "; ".join([*reasons, *remarks]) or None


def _settled(
    config: RunConfig,
    latencies: dict[str, Latencies],
    networks: dict[str, nn.Module],
    example: torch.Tensor,
    dense: Cost,
) -> Cost:
    """Settle what measured limits depend on, and give the dense cost that percentages are of.

    Percentages are judged by ratios that were measured in turn: by how much the machine is slower
    or faster now than when the run began has no part in them.
    """
    hardware = config.hardware
    latency = as_delivered(latencies["final"], hardware)
    before = dense.get(Resource.latency_ms) or fastest(latencies["dense"])
    assert latency is not None
    assert before is not None
    runtimes = {"dense": str(before.runtime), "final": str(latency.runtime)}
    settle(latencies, networks, example, hardware, runtimes)
    now = latencies["dense"].measured.get(runtimes["dense"])
    if now is None:
        return dense
    return dense | hardware.price(deployed_copy(networks["dense"], example), example, latency=now)


def _as_dict(resolved: str) -> dict[str, Any]:
    return dict(OmegaConf.to_container(OmegaConf.create(resolved)))  # type: ignore[arg-type]


def _versions() -> dict[str, str]:
    python = ".".join(str(part) for part in sys.version_info[:3])
    packages = {name: _version(name) for name in _PACKAGES}
    return {"python": python, **packages, "git": git_revision(Path.cwd())}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _assumptions(monitor: CostMonitor, callbacks: Sequence[Callback]) -> dict[str, str]:
    known = {name: value for name, value in monitor.meter.assumptions.items() if value is not None}
    missing = [name for name in monitor.meter.assumptions if name not in known]
    note = ", ".join(f"{name}={value:g}" for name, value in known.items())
    if missing:
        note = f"{note}; not described by the hardware: {', '.join(missing)}".lstrip("; ")
    notes = {**dict.fromkeys(("energy_kwh", "co2_kg", "usd"), note), **monitor.meter.notes}
    for entry in callbacks:
        if isinstance(entry, GlobalRankingPruning) and entry.planned and entry.planned.search_note:
            notes["search_flops"] += f"; {entry.planned.search_note}"
    return notes
