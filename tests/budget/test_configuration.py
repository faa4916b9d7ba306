"""The callbacks are built from text by LightningCLI and by Hydra."""

import pytest
from jsonargparse import ArgumentParser
from omegaconf import OmegaConf
from pytorch_lightning import Callback

from lightning_cost.budget.callback import BudgetStopping
from lightning_cost.budget.model import ModelBudget
from lightning_cost.budget.training import TrainingBudget
from lightning_cost.hardware.device import Hardware
from lightning_cost.monitor.callback import CostMonitor


def built(*arguments):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Callback, "callback")
    return parser.instantiate(parser.parse_args(list(arguments))).callback


def test_lightning_cli_builds_budget_stopping():
    callback = built(
        "--callback=lightning_cost.budget.callback.BudgetStopping",
        "--callback.model.macs=50%",
        "--callback.model.latency_ms=2",
        "--callback.training.wall_clock_s=2h",
        "--callback.hardware.name=mine",
        "--callback.hardware.runtime=openvino",
    )
    assert isinstance(callback, BudgetStopping)
    assert callback.model == ModelBudget(macs="50%", latency_ms=2)
    assert callback.training == TrainingBudget(wall_clock_s="2h")
    assert callback.hardware == Hardware(name="mine", runtime="openvino")


def test_lightning_cli_builds_the_monitor():
    callback = built(
        "--callback=lightning_cost.monitor.callback.CostMonitor",
        "--callback.every_n_epochs=5",
        "--callback.hardware.num_threads=2",
    )
    assert isinstance(callback, CostMonitor)
    assert callback.every_n_epochs == 5
    assert callback.hardware == Hardware.local(num_threads=2)


def test_hydra_builds_them(tmp_path):
    from hydra.utils import instantiate

    config = OmegaConf.create(
        {
            "_target_": "lightning_cost.budget.callback.BudgetStopping",
            "model": {"_target_": "lightning_cost.budget.model.ModelBudget", "macs": "50%"},
            "hardware": {
                "_target_": "lightning_cost.hardware.device.Hardware.load",
                "name": "raspberry_pi_4",
            },
        }
    )
    callback = instantiate(config)
    assert callback.model == ModelBudget(macs="50%")
    assert callback.hardware == Hardware.load("raspberry_pi_4")


def test_a_typo_in_a_schema_is_refused():
    schema = OmegaConf.structured(ModelBudget)
    with pytest.raises(Exception, match="Key 'mcas' not in 'ModelBudget'"):
        OmegaConf.merge(schema, {"mcas": "50%"})
