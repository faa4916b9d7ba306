import pytest

from lightning_cost.budget.callback import BudgetStopping
from lightning_cost.budget.model import ModelBudget
from lightning_cost.budget.training import TrainingBudget
from lightning_cost.hardware.device import Hardware
from lightning_cost.monitor.callback import CostMonitor
from lightning_cost.pruning.callback import GlobalRankingPruning
from lightning_cost.pruning.schedule import PruningSchedule
from lightning_cost.quantization.callback import QuantizationAwareTraining
from lightning_cost.quantization.rules import QuantizationRules
from lightning_cost.recipe import callbacks
from lightning_cost.recipe.callbacks import callbacks_for, compress_to
from lightning_cost.recipe.config import CompressSettings, RunConfig

HALF = ModelBudget(macs="50%")


@pytest.mark.parametrize(
    ("settings", "compressing"),
    [
        ({}, [GlobalRankingPruning, QuantizationAwareTraining]),
        ({"quantize": None}, [GlobalRankingPruning]),
        ({"prune": False}, [QuantizationAwareTraining]),
    ],
)
def test_what_is_switched_off_is_left_out(settings, compressing):
    callbacks = compress_to(HALF, settings=CompressSettings(**settings))
    assert [type(callback) for callback in callbacks] == [CostMonitor, *compressing, BudgetStopping]


def test_everything_is_passed_on():
    hardware, training = Hardware.load("raspberry_pi_4"), TrainingBudget(wall_clock_s="2h")
    rules = QuantizationRules(observer="mse")
    settings = CompressSettings(
        quantize_epochs=5, quantization=rules, distillation=None, max_drop=0.1
    )
    monitor, pruning, quantizing, stopping = compress_to(
        HALF,
        hardware=hardware,
        training=training,
        settings=settings,
        train_hardware=Hardware.load("nvidia_t4"),
        network="net",
        seed=7,
    )
    assert monitor.train_hardware.name == "nvidia_t4"
    assert monitor.hardware is pruning.hardware is stopping.hardware is hardware
    assert {c.network for c in (monitor, pruning, quantizing, stopping)} == {"net"}
    assert pruning.budget is stopping.model is HALF
    assert (pruning.schedule, pruning.search) == (settings.schedule, settings.search)
    assert pruning.channels is settings.channels
    assert pruning.seed == 7
    assert pruning.distillation is None
    assert pruning.guard == settings.guard
    assert quantizing.epochs == 5
    assert quantizing.rules is rules
    assert quantizing.distillation is None
    assert quantizing.start is None
    assert stopping.training is training


def test_without_pruning_quantisation_starts_after_the_warm_up():
    settings = CompressSettings(prune=False, schedule=PruningSchedule(warmup_epochs=6))
    assert compress_to(HALF, settings=settings)[1].start == 6


@pytest.mark.parametrize(
    ("hardware", "runtimes"),
    [
        (None, ()),
        (Hardware.load("raspberry_pi_4"), ()),
        (Hardware.local(runtime="openvino"), ("openvino",)),
        (Hardware.local(runtime="eager"), ("onnxruntime", "openvino")),
        (Hardware.local(), ("onnxruntime", "openvino")),
    ],
)
def test_saturation_is_probed_on_what_runs_the_file_here(monkeypatch, hardware, runtimes):
    installed = ["eager", "onnxruntime", "openvino"]
    monkeypatch.setattr(callbacks, "installed_runtimes", lambda: installed)
    assert compress_to(HALF, hardware=hardware)[2].runtimes == runtimes


def test_an_empty_budget():
    with pytest.raises(ValueError, match="budget must limit something, got none"):
        compress_to(ModelBudget())


def test_a_configuration_is_the_same_by_another_way():
    config = RunConfig(budget=HALF, training=TrainingBudget(flops="1 P"), seed=3)
    _, pruning, _, stopping = callbacks_for(config)
    assert (pruning.budget, pruning.seed) == (HALF, 3)
    assert stopping.training == config.training
    assert stopping.hardware == Hardware.local()
