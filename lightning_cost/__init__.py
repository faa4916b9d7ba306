"""Cost budgets for PyTorch Lightning: measure, prune, quantise, and stop when the budget is met."""

from lightning_cost.budget.callback import BudgetStopping
from lightning_cost.budget.model import ModelBudget
from lightning_cost.budget.training import TrainingBudget
from lightning_cost.cost.macs import MacReport, count_macs
from lightning_cost.cost.measurement import Cost, Measurement
from lightning_cost.cost.microcontroller import MemoryFit, memory_fit
from lightning_cost.cost.resource import Resource
from lightning_cost.cost.table import cost_table
from lightning_cost.hardware.device import Hardware
from lightning_cost.hardware.tables.latency_table import LatencyTable
from lightning_cost.monitor.callback import CostMonitor
from lightning_cost.monitor.measure import measure
from lightning_cost.network.checkpoint import load_compressed
from lightning_cost.network.distillation import Distillation
from lightning_cost.pruning.callback import GlobalRankingPruning
from lightning_cost.pruning.guard import MetricGuard
from lightning_cost.pruning.ranking import GlobalRanking
from lightning_cost.pruning.schedule import PruningSchedule
from lightning_cost.pruning.search.evolution import EvolutionSearch
from lightning_cost.quantization.callback import QuantizationAwareTraining
from lightning_cost.quantization.packing.packed import (
    load_packed,
    packed_size_bytes,
    save_packed,
)
from lightning_cost.quantization.rules import QuantizationRules
from lightning_cost.quantization.schemes.flightnn import FLightNN
from lightning_cost.quantization.schemes.powers import APoT, PowerOfTwo
from lightning_cost.quantization.schemes.uniform import Int8, LowBit
from lightning_cost.recipe.callbacks import compress_to
from lightning_cost.recipe.deployment import export
from lightning_cost.report.html import write_report

__all__ = [
    "APoT",
    "BudgetStopping",
    "Cost",
    "CostMonitor",
    "Distillation",
    "EvolutionSearch",
    "FLightNN",
    "GlobalRanking",
    "GlobalRankingPruning",
    "Hardware",
    "Int8",
    "LatencyTable",
    "LowBit",
    "MacReport",
    "Measurement",
    "MemoryFit",
    "MetricGuard",
    "ModelBudget",
    "PowerOfTwo",
    "PruningSchedule",
    "QuantizationAwareTraining",
    "QuantizationRules",
    "Resource",
    "TrainingBudget",
    "compress_to",
    "cost_table",
    "count_macs",
    "export",
    "load_compressed",
    "load_packed",
    "measure",
    "memory_fit",
    "packed_size_bytes",
    "save_packed",
    "write_report",
]
