"""The dense network is measured once, for all callbacks of a Trainer."""

import pytest
from pytorch_lightning import Callback

from lightning_cost.budget.model import ModelBudget
from lightning_cost.cost.resource import Resource
from lightning_cost.hardware.device import Hardware
from lightning_cost.monitor import callback as monitoring
from lightning_cost.pruning.target import demand
from lightning_cost.recipe.callbacks import compress_to
from tests.integration import setting


class EnoughError(Exception):
    """The first step is reached."""


class EndAtFirstStep(Callback):
    def on_train_batch_start(self, *_):
        raise EnoughError


def test_pruning_takes_the_dense_latency_of_the_monitor(tmp_path, monkeypatch):
    measured = []

    def measure(network, example, **given):
        measured.append(given.get("resources"))
        return original(network, example, **given)

    original = monitoring.measure
    for module in (monitoring, demand):
        monkeypatch.setattr(module, "measure", measure)
    budget = ModelBudget(latency_ms=1000, macs="90%")
    hardware = Hardware.local("eager")
    callbacks = compress_to(budget, hardware=hardware, settings=setting.settings())
    with pytest.raises(EnoughError):
        setting.trainer(tmp_path, [EndAtFirstStep(), *callbacks]).fit(
            setting.module(), datamodule=setting.data()
        )
    assert len(measured) == 1
    monitor, prune = callbacks[:2]
    assert (
        prune.state_dict()["dense_cost"]["latency_ms"]
        == monitor.dense[Resource.latency_ms].to_dict()
    )
