"""The main job: train, compress, deploy, measure, report."""

import shlex
import sys
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from torch import nn

from lightning_cost.budget.callback import BudgetStopping
from lightning_cost.cost.measurement import Cost
from lightning_cost.cost.resource import Resource
from lightning_cost.hardware.device import AUTO
from lightning_cost.monitor.callback import CostMonitor
from lightning_cost.network.deploy import deployed_copy
from lightning_cost.network.lineage import lineage_of
from lightning_cost.network.participants import callbacks_of
from lightning_cost.pruning.callback import GlobalRankingPruning
from lightning_cost.quantization.prepare import PrepareQuantization
from lightning_cost.recipe.callbacks import callbacks_for
from lightning_cost.recipe.config import RunConfig
from lightning_cost.recipe.console import without_advice
from lightning_cost.recipe.data import batches_of, facts_of, first_images, num_classes_of
from lightning_cost.recipe.dense import DenseSnapshot
from lightning_cost.recipe.deployment import (
    as_delivered,
    deliver,
    fastest,
    latencies_of,
    remark_on,
    require_file_runtime,
    settle,
)
from lightning_cost.recipe.layers import layer_bits, layer_widths
from lightning_cost.recipe.pruned import pruning_record
from lightning_cost.recipe.run_dir import (
    CONFIG_NAME,
    DENSE_NAME,
    FINAL_NAME,
    LAST_NAME,
    ONNX_NAME,
    RANKING_NAME,
    checkpoint_to_resume,
    create_run_dir,
    empty_untrained,
    is_first_rank,
    new_logs_name,
)
from lightning_cost.report.document import RunFacts, Stage, build_report
from lightning_cost.report.files import save_report, write_text
from lightning_cost.report.html import write_report
from lightning_cost.report.limits import broken_limits
from lightning_cost.report.spend import spend_entries
from lightning_cost.report.table import cost_table
from lightning_cost.runtime.contract import get_runtime
from lightning_cost.runtime.latency import Latencies
from lightning_cost.zoo.classifier import ImageClassifier, LearningPhase

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


def fit(config: RunConfig, network: nn.Module, data: pl.LightningDataModule, resolved: str) -> bool:
    """Train ``network`` on ``data``, compress it to the budget, deploy it, and write the report.

    Args:
        config: What to do.
        network: Dense, freshly built.
        data: Gives batches (images, labels) for training and validation; a ``search_dataloader``
            and a test part too, where it has them.
        resolved: The whole configuration as YAML text, kept in the run directory.

    Returns:
        Whether every limit is kept and the deployed file computes what was trained. The last line
        printed is the run directory.

    Raises:
        ValueError: If the configuration asks for what cannot be; before training where it can be
            known then.
        OSError: If the run directory cannot be written to.
    """
    if config.runtime is not None:
        config.hardware.runtime = config.runtime
    if config.budget.is_empty:
        raise ValueError("budget must limit something, got none; set for example budget.macs=50%")
    if config.hardware.is_local and config.hardware.runtime not in (None, AUTO):
        get_runtime(str(config.hardware.runtime), precision=config.hardware.precision)
    require_file_runtime()
    callbacks = callbacks_for(config)
    num_classes = num_classes_of(network, first_images(data))
    if config.resume is None:
        run_dir, checkpoint = create_run_dir(config.run_dir), None
        if is_first_rank():
            write_text(run_dir / CONFIG_NAME, resolved)
    else:
        run_dir, checkpoint = Path(config.resume), checkpoint_to_resume(config.resume)
    pl.seed_everything(config.seed, verbose=False)
    if config.trainer.num_threads is not None:
        torch.set_num_threads(config.trainer.num_threads)

    fresh = deepcopy(network)
    snapshot = DenseSnapshot(run_dir / DENSE_NAME, network="network")
    module = _module(config, network, num_classes)
    with without_advice():
        trainer = _trainer(config, run_dir, [snapshot, *callbacks])
        try:
            trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        except ValueError:
            if trainer.is_global_zero:
                empty_untrained(run_dir)
            raise
        trainer.save_checkpoint(run_dir / FINAL_NAME, weights_only=False)
    if not trainer.is_global_zero:
        return True
    for callback in callbacks:
        if isinstance(callback, GlobalRankingPruning) and callback.ranking is not None:
            callback.ranking.save(run_dir / RANKING_NAME)

    report = _report(config, run_dir, trainer, snapshot.load_into(fresh), module, data, resolved)
    save_report(report, run_dir)
    write_report(run_dir)
    print(cost_table(report))
    broken = [f"limit broken: {sentence}" for sentence in broken_limits(report)]
    parity = report["parity"]
    if not parity["passed"]:
        broken.append(
            f"parity broken: on {parity['runtime']} the file computes something else than the "
            f"trained network: largest error {parity['max_abs_error']}, output range "
            f"{parity['output_range']}, share of equal predictions {parity['top1_agreement']}"
        )
    for sentence in broken:
        print(sentence)
    print(f"report: {run_dir / 'report.html'}")
    print(run_dir)
    return not broken


def _module(config: RunConfig, network: nn.Module, num_classes: int) -> ImageClassifier:
    settings, compress = config.trainer, config.compress
    schedule = compress.schedule
    phases = [LearningPhase(epochs=schedule.warmup_epochs, peak=settings.learning_rate)]
    if compress.prune:
        epochs = schedule.end_epoch - schedule.warmup_epochs
        phases.append(LearningPhase(epochs=epochs, peak=settings.recover_learning_rate))
    if compress.quantize is not None:
        peak = settings.quantize_learning_rate
        phases.append(LearningPhase(epochs=compress.quantize_epochs, peak=peak))
    return ImageClassifier(
        network,
        num_classes=num_classes,
        phases=phases,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        label_smoothing=settings.label_smoothing,
        channels_last=settings.channels_last,
    )


def _trainer(config: RunConfig, run_dir: Path, callbacks: list[Callback]) -> pl.Trainer:
    settings = config.trainer
    for callback in callbacks:
        if isinstance(callback, BudgetStopping):
            callback.checkpoint_dir = str(run_dir)
    last = ModelCheckpoint(
        dirpath=run_dir, filename=Path(LAST_NAME).stem, enable_version_counter=False
    )
    return pl.Trainer(
        accelerator=settings.accelerator,
        devices=settings.devices,
        strategy=settings.strategy,
        precision=settings.precision,  # type: ignore[arg-type]
        max_epochs=config.compress.num_epochs,
        callbacks=[*callbacks, last],
        logger=CSVLogger(run_dir, name="", version=new_logs_name(run_dir)),
        enable_progress_bar=settings.progress_bar,
        enable_model_summary=False,
        log_every_n_steps=10,
    )


def _report(
    config: RunConfig,
    run_dir: Path,
    trainer: pl.Trainer,
    dense: nn.Module,
    module: ImageClassifier,
    data: pl.LightningDataModule,
    resolved: str,
) -> dict[str, Any]:
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
    before = deliver(
        dense,
        run_dir / "dense.onnx",
        hardware=config.hardware,
        latency=fastest(latencies["dense"]),
        evaluation=evaluation,
        is_quantized=False,
    )
    after = deliver(
        network,
        run_dir / ONNX_NAME,
        hardware=config.hardware,
        latency=latency,
        evaluation=evaluation,
        is_quantized=is_quantized,
    )
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
                "dense_onnx": "dense.onnx",
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
    return {"python": python} | {name: _version(name) for name in _PACKAGES}


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
