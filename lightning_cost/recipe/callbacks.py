"""The one place that puts the compressing callbacks in order."""

from pathlib import Path

from pytorch_lightning import Callback

from lightning_cost.budget.callback import BudgetStopping
from lightning_cost.budget.model import ModelBudget
from lightning_cost.budget.training import TrainingBudget
from lightning_cost.hardware.device import Hardware
from lightning_cost.monitor.callback import CostMonitor
from lightning_cost.pruning.callback import GlobalRankingPruning
from lightning_cost.pruning.ranking import GlobalRanking
from lightning_cost.pruning.search.run import SharedSearch
from lightning_cost.quantization.callback import QuantizationAwareTraining
from lightning_cost.recipe.config import CompressSettings, RunConfig
from lightning_cost.recipe.plain import PlainTraining
from lightning_cost.runtime.contract import DEPLOYABLE, installed_runtimes


def compress_to(
    budget: ModelBudget,
    *,
    hardware: Hardware | None = None,
    training: TrainingBudget | None = None,
    settings: CompressSettings | None = None,
    train_hardware: Hardware | None = None,
    network: str | None = None,
    ranking: GlobalRanking | str | Path | None = None,
    shared_search: SharedSearch | None = None,
    seed: int = 0,
) -> list[Callback]:
    """Everything that a Trainer needs to compress its network to ``budget``, in order.

    Args:
        budget: Limits on the deployed model.
        hardware: The device that it is for; needed for limits on latency, energy and price.
        training: Limits on the run.
        settings: When and how channels and bits are reduced.
        train_hardware: The machine that trains, for what training costs; by default ``hardware``
            where that is this machine.
        network: Path of the network in the LightningModule, where it cannot be found.
        ranking: One that was learned before, or its file, in place of a search.
        shared_search: Where other runs for the same trained network find what this one judged.
        seed: Of the search.

    Returns:
        CostMonitor, GlobalRankingPruning, QuantizationAwareTraining, BudgetStopping; without the
        second or third where ``settings`` switches pruning or quantisation off. Without both,
        PlainTraining stands in their place.

    Raises:
        ValueError: If the budget is empty, or if it needs hardware and none is given.

    Example:
        >>> callbacks = compress_to(ModelBudget(macs="50%"))
        >>> [type(callback).__name__ for callback in callbacks]  # doctest: +NORMALIZE_WHITESPACE
        ['CostMonitor', 'GlobalRankingPruning', 'QuantizationAwareTraining', 'BudgetStopping']
    """
    settings = settings or CompressSettings()
    callbacks: list[Callback] = [
        CostMonitor(hardware=hardware, network=network, train_hardware=train_hardware)
    ]
    if settings.prune:
        callbacks.append(
            GlobalRankingPruning(
                budget,
                hardware=hardware,
                schedule=settings.schedule,
                search=settings.search,
                channels=settings.channels,
                network=network,
                distillation=settings.distillation,
                guard=settings.guard,
                ranking=ranking,
                shared_search=shared_search,
                seed=seed,
            )
        )
    if settings.quantize is not None:
        callbacks.append(
            QuantizationAwareTraining(
                scheme=settings.quantize,
                start=None if settings.prune else settings.schedule.warmup_epochs,
                epochs=settings.quantize_epochs,
                rules=settings.quantization,
                runtimes=_runtimes_here(hardware),
                distillation=settings.distillation,
                budget=budget,
                hardware=hardware,
                network=network,
            )
        )
    if not settings.prune and settings.quantize is None:
        callbacks.append(PlainTraining(settings.num_epochs))
    callbacks.append(
        BudgetStopping(model=budget, training=training, hardware=hardware, network=network)
    )
    return callbacks


def _runtimes_here(hardware: Hardware | None) -> list[str]:
    """What may run the delivered file on this machine, if it is delivered for it."""
    if hardware is None or not hardware.is_local:
        return []
    installed = [name for name in DEPLOYABLE if name in installed_runtimes()]
    return [hardware.runtime] if hardware.runtime in installed else installed


def callbacks_for(config: RunConfig) -> list[Callback]:
    """The callbacks that ``config`` asks for."""
    return compress_to(
        config.budget,
        hardware=config.hardware,
        training=None if config.training.is_empty else config.training,
        settings=config.compress,
        train_hardware=config.train_hardware,
        ranking=config.ranking,
        shared_search=config.shared_search,
        seed=config.seed,
    )
