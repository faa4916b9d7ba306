"""The main job: train, compress, deploy, measure, report."""

from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from torch import nn

from lightning_cost.budget.callback import BudgetStopping
from lightning_cost.cost.duplicate import duplicated
from lightning_cost.hardware.device import AUTO
from lightning_cost.network.checkpoint_file import WholeCheckpoints
from lightning_cost.network.whole_file import remove_drafts, sync_files
from lightning_cost.pruning.callback import GlobalRankingPruning
from lightning_cost.recipe.callbacks import callbacks_for
from lightning_cost.recipe.config import RunConfig
from lightning_cost.recipe.console import without_advice
from lightning_cost.recipe.data import first_images, num_classes_of
from lightning_cost.recipe.dense import DenseSnapshot
from lightning_cost.recipe.deployment import (
    require_file_runtime,
)
from lightning_cost.recipe.first_checkpoint import FirstCheckpoint
from lightning_cost.recipe.run_dir import (
    CONFIG_NAME,
    DENSE_NAME,
    FINAL_NAME,
    LAST_NAME,
    PREVIOUS_NAME,
    RANKING_NAME,
    checkpoint_to_resume,
    create_run_dir,
    empty_untrained,
    is_first_rank,
    new_logs_name,
    remove_notes,
)
from lightning_cost.recipe.run_report import report_of
from lightning_cost.recipe.smallest import require_reachable
from lightning_cost.report.files import save_report, write_text
from lightning_cost.report.html import write_report
from lightning_cost.report.limits import broken_limits, broken_parity, keeps_its_word
from lightning_cost.report.table import cost_table
from lightning_cost.runtime.contract import get_runtime
from lightning_cost.zoo.classifier import ImageClassifier, LearningPhase

_PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
_SHORT_PRECISIONS = ("32", "bf16", "16")
"""The same, as Lightning takes them too."""


def fit(
    config: RunConfig,
    network: nn.Module,
    data: pl.LightningDataModule,
    resolved: str,
    *,
    observers: Sequence[Callback] = (),
) -> bool:
    """Train ``network`` on ``data``, compress it to the budget, deploy it, and write the report.

    Args:
        config: What to do.
        network: Dense, freshly built.
        data: Gives batches (images, labels) for training and validation; a ``search_dataloader``
            and a test part too, where it has them.
        resolved: The whole configuration as YAML text, kept in the run directory.
        observers: Callbacks that watch the run and may end it.

    Returns:
        Whether every limit is kept and the deployed file computes what was trained. The last line
        printed is the run directory.

    Raises:
        ValueError: If the configuration asks for what cannot be; before training where it can be
            known then.
        OSError: If the run directory cannot be written to.
    """
    config.settle_hardware()
    if config.budget.is_empty:
        raise ValueError("budget must limit something, got none; set for example budget.macs=50%")
    if config.hardware.is_local and config.hardware.runtime not in (None, AUTO):
        get_runtime(str(config.hardware.runtime), precision=config.hardware.precision)
    require_file_runtime()
    if config.trainer.precision not in (*_PRECISIONS, *_SHORT_PRECISIONS):
        raise ValueError(
            f"trainer.precision must be one of {', '.join(_PRECISIONS)}, so that weights are in "
            f"float32, which the delivered file computes in, got {config.trainer.precision!r}; "
            "bf16-mixed trains about as fast as bf16-true"
        )
    callbacks = callbacks_for(config)
    images = first_images(data)
    num_classes = num_classes_of(network, images)
    require_reachable(config, network, images[:1])
    if config.resume is None:
        run_dir, checkpoint = create_run_dir(config.run_dir), None
        if is_first_rank():
            write_text(run_dir / CONFIG_NAME, resolved)
    else:
        run_dir, checkpoint = Path(config.resume), checkpoint_to_resume(config.resume)
        if is_first_rank():
            remove_drafts(run_dir)
            if checkpoint is None:
                remove_notes(run_dir)
    pl.seed_everything(config.seed, verbose=False)
    if config.trainer.num_threads is not None:
        torch.set_num_threads(config.trainer.num_threads)

    fresh = duplicated(network)
    snapshot = DenseSnapshot(run_dir / DENSE_NAME, network="network")
    module = _module(config, network, num_classes)
    with without_advice():
        trainer = _trainer(
            config,
            run_dir,
            [snapshot, *callbacks, *observers],
            goes_on=checkpoint is not None,
        )
        try:
            trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        except ValueError:
            if trainer.is_global_zero and config.resume is None and trainer.current_epoch == 0:
                empty_untrained(run_dir)
            raise
        trainer.save_checkpoint(run_dir / FINAL_NAME, weights_only=False)
    if not trainer.is_global_zero:
        return True
    for callback in callbacks:
        if isinstance(callback, GlobalRankingPruning) and callback.ranking is not None:
            callback.ranking.save(run_dir / RANKING_NAME)

    report = report_of(config, run_dir, trainer, snapshot.load_into(fresh), module, data, resolved)
    sync_files(run_dir)  # where there is a report, all that it speaks of is there too
    save_report(report, run_dir)
    write_report(run_dir)
    print(cost_table(report))
    broken = [f"limit broken: {sentence}" for sentence in broken_limits(report)]
    difference = broken_parity(report)
    if difference is not None:
        broken.append(f"parity broken: {difference}")
    for sentence in broken:
        print(sentence)
    print(f"report: {run_dir / 'report.html'}")
    print(run_dir)
    return keeps_its_word(report)


def _module(config: RunConfig, network: nn.Module, num_classes: int) -> ImageClassifier:
    settings, compress = config.trainer, config.compress
    schedule = compress.schedule
    phases = [LearningPhase(epochs=schedule.warmup_epochs, peak=settings.learning_rate)]
    if compress.prune:
        epochs = schedule.end_epoch - schedule.warmup_epochs
        phases.append(LearningPhase(epochs=epochs, peak=settings.recover_learning_rate))
    if compress.quantize is not None and compress.quantize_epochs:
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


def _trainer(
    config: RunConfig, run_dir: Path, callbacks: list[Callback], *, goes_on: bool
) -> pl.Trainer:
    settings = config.trainer
    for callback in callbacks:
        if isinstance(callback, BudgetStopping):
            callback.checkpoint_dir = str(run_dir)
            callback.saves_interrupted = False  # a run goes on from the end of an epoch
    last = ModelCheckpoint(
        dirpath=run_dir, filename=Path(LAST_NAME).stem, enable_version_counter=False
    )
    return pl.Trainer(
        accelerator=settings.accelerator,
        devices=settings.devices,
        strategy=settings.strategy,
        precision=settings.precision,  # type: ignore[arg-type]
        max_epochs=config.compress.num_epochs,
        callbacks=[*callbacks, last, FirstCheckpoint(run_dir / LAST_NAME)],
        plugins=[WholeCheckpoints({LAST_NAME: PREVIOUS_NAME})],
        logger=CSVLogger(run_dir, name="", version=new_logs_name(run_dir)),
        enable_progress_bar=settings.progress_bar,
        enable_model_summary=False,
        log_every_n_steps=10,
        # a run that goes on was looked at when it began
        num_sanity_val_steps=0 if goes_on else 2,
    )
