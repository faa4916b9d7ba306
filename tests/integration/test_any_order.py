"""Each callback works alone, and together they do the same in any order of the list."""

import pytest
import torch
from omegaconf import OmegaConf
from pytorch_lightning import LightningDataModule, LightningModule
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.cli import LightningCLI

from lightning_cost.budget.callback import BudgetStopping
from lightning_cost.budget.model import ModelBudget
from lightning_cost.budget.training import TrainingBudget
from lightning_cost.hardware.device import Hardware
from lightning_cost.monitor.callback import CostMonitor
from lightning_cost.monitor.measure import measure
from lightning_cost.network.lineage import lineage_of, lineage_to_list
from lightning_cost.pruning.callback import GlobalRankingPruning
from lightning_cost.pruning.schedule import PruningSchedule
from lightning_cost.quantization.callback import QuantizationAwareTraining
from tests.integration import setting

KINDS = ["remove_channels", "remove_channels", "prepare_quantization"]
EXAMPLE = torch.zeros(1, 1, 8, 8)


def run(folder, order):
    """Fit with the callbacks in ``order``: module, callbacks in their usual order, trainer."""
    module, callbacks = setting.module(), setting.callbacks()
    trainer = setting.trainer(folder, [callbacks[index] for index in order])
    trainer.fit(module, datamodule=setting.data())
    return module, callbacks, trainer


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    return run(tmp_path_factory.mktemp("usual"), range(4))


def same(first, second):
    module, callbacks, trainer = first
    other, others, other_trainer = second
    assert lineage_to_list(lineage_of(other.network)) == lineage_to_list(lineage_of(module.network))
    assert other_trainer.global_step == trainer.global_step
    assert others[-1].stop_reason == callbacks[-1].stop_reason
    rows, other_rows = ([_untimed(row) for row in part[0].history] for part in (callbacks, others))
    assert other_rows == rows
    state = other.state_dict()
    for name, value in module.state_dict().items():
        assert torch.equal(state[name], value), name


def _untimed(row):
    return {name: value for name, value in row.items() if name != "seconds"}


@pytest.mark.parametrize("order", [(3, 2, 1, 0), (2, 0, 3, 1), (1, 3, 0, 2)])
def test_the_order_of_the_list_does_not_matter(usual, tmp_path, order):
    same(usual, run(tmp_path, order))


def test_a_checkpoint_callback_may_stand_first(usual, tmp_path):
    module, callbacks = setting.module(), setting.callbacks()
    saving = ModelCheckpoint(dirpath=tmp_path, filename="{epoch}", save_top_k=-1)
    trainer = setting.trainer(tmp_path, [saving, *callbacks], enable_checkpointing=True)
    trainer.fit(module, datamodule=setting.data())
    same(usual, (module, callbacks, trainer))
    last = tmp_path / f"epoch={trainer.current_epoch - 1}.ckpt"
    saved = torch.load(last, weights_only=True)
    assert [change["kind"] for change in saved["lightning_cost_lineage"]["changes"]] == KINDS
    assert len(saved["callbacks"]["CostMonitor"]["tracker"]["rows"]) == trainer.current_epoch


def alone(folder, callback, **options):
    module = setting.module()
    trainer = setting.trainer(folder, [callback], **options)
    trainer.fit(module, datamodule=setting.data())
    return module, trainer


def kinds_of(module):
    return [change.kind for change in lineage_of(module.network)]


def test_the_monitor_alone(tmp_path):
    monitor = CostMonitor()
    module, _ = alone(tmp_path, monitor, max_epochs=2)
    assert kinds_of(module) == []
    assert [row["epoch"] for row in monitor.history] == [0, 1]
    assert monitor.cost == measure(module.network, EXAMPLE)


def test_pruning_alone(tmp_path):
    budget = ModelBudget(macs="50%")
    given = setting.settings()
    dense = measure(setting.module().network, EXAMPLE)
    pruning = GlobalRankingPruning(
        budget, schedule=given.schedule, search=given.search, channels=given.channels
    )
    module, trainer = alone(tmp_path, pruning, max_epochs=given.schedule.end_epoch)
    assert kinds_of(module) == KINDS[:2]
    assert pruning.is_finished
    assert budget.is_kept(measure(module.network, EXAMPLE), dense)
    assert trainer.current_epoch == given.schedule.end_epoch


def test_quantisation_alone(tmp_path):
    quantizing = QuantizationAwareTraining(start=1, epochs=1)
    module, _ = alone(tmp_path, quantizing, max_epochs=2)
    assert kinds_of(module) == KINDS[2:]
    assert quantizing.is_finished


def test_stopping_alone(tmp_path):
    stopping = BudgetStopping(ModelBudget(macs="100%"))
    module, trainer = alone(tmp_path, stopping)
    assert kinds_of(module) == []
    assert trainer.current_epoch == 1
    assert stopping.stop_reason.startswith("model budget kept")


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_channels_that_go_in_the_last_epoch_of_the_schedule(tmp_path, order):
    schedule = PruningSchedule(warmup_epochs=1, num_steps=1, recover_epochs=0)
    compressing = setting.callbacks(schedule=schedule, quantize_epochs=1)[1:3]
    module = setting.module()
    setting.trainer(tmp_path, [compressing[index] for index in order], max_epochs=3).fit(
        module, datamodule=setting.data()
    )
    assert kinds_of(module) == [KINDS[0], KINDS[2]]
    alone_too = setting.callbacks(schedule=schedule)[1]
    with pytest.raises(ValueError, match="max_epochs must be >= 2, where the pruning schedule"):
        alone(tmp_path, alone_too, max_epochs=1)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_pruning_and_quantisation_without_the_others(tmp_path, order):
    compressing = setting.callbacks()[1:3]
    module = setting.module()
    setting.trainer(tmp_path, [compressing[index] for index in order]).fit(
        module, datamodule=setting.data()
    )
    assert kinds_of(module) == KINDS
    assert all(callback.is_finished for callback in compressing)


CONFIG = {
    "trainer": {
        "logger": False,
        "accelerator": "cpu",
        "devices": 1,
        "callbacks": [
            {
                "class_path": "lightning_cost.CostMonitor",
                "init_args": {"every_n_epochs": 2},
            },
            {
                "class_path": "lightning_cost.GlobalRankingPruning",
                "init_args": {
                    "budget": {"macs": "40%", "latency_ms": 3},
                    "hardware": {"name": "mine", "runtime": "openvino"},
                    "schedule": {"warmup_epochs": 2, "num_steps": 3},
                    "search": {"num_candidates": 7},
                    "channels": {"multiple": 4, "exclude": ["stem"]},
                },
            },
            {
                "class_path": "lightning_cost.QuantizationAwareTraining",
                "init_args": {"scheme": "int8", "epochs": 3, "rules": {"exclude": ["classifier"]}},
            },
            {
                "class_path": "lightning_cost.BudgetStopping",
                "init_args": {
                    "model": {"macs": "40%"},
                    "training": {"wall_clock_s": "2h"},
                },
            },
        ],
    }
}


class Nothing(LightningModule):
    """The LightningModule does not matter here."""


class NoData(LightningDataModule):
    """Nor does the data."""


@pytest.fixture
def lightning_cli(tmp_path, monkeypatch):
    """Builds a Trainer from a configuration, as ``python train.py --config config.yaml`` does."""

    def built(config):
        path = tmp_path / "config.yaml"
        OmegaConf.save(OmegaConf.create(config), path)
        monkeypatch.setattr("sys.argv", ["train.py", "--config", str(path)])
        return LightningCLI(
            Nothing, NoData, run=False, save_config_callback=None, seed_everything_default=False
        ).trainer

    return built


@pytest.mark.filterwarnings("ignore::DeprecationWarning:pytorch_lightning.cli")
def test_lightning_cli_builds_all_four_from_yaml(lightning_cli):
    trainer = lightning_cli(CONFIG)
    built = {type(callback): callback for callback in trainer.callbacks}
    assert built[CostMonitor].every_n_epochs == 2
    pruning = built[GlobalRankingPruning]
    assert pruning.budget == ModelBudget(macs="40%", latency_ms=3)
    assert pruning.hardware == Hardware(name="mine", runtime="openvino")
    assert (pruning.schedule.warmup_epochs, pruning.schedule.num_steps) == (2, 3)
    assert pruning.search.num_candidates == 7
    assert (pruning.channels.multiple, pruning.channels.exclude) == (4, ["stem"])
    quantizing = built[QuantizationAwareTraining]
    assert (quantizing.scheme.name, quantizing.epochs) == ("int8", 3)
    assert quantizing.rules.exclude == ["classifier"]
    stopping = built[BudgetStopping]
    assert stopping.model == ModelBudget(macs="40%")
    assert stopping.training == TrainingBudget(wall_clock_s="2h")


def test_lightning_cli_refuses_a_typo(lightning_cli, capsys):
    pruning = CONFIG["trainer"]["callbacks"][1] | {"init_args": {"budget": {"mac": "40%"}}}
    with pytest.raises(SystemExit):
        lightning_cli({"trainer": {"callbacks": [pruning]}})
    assert "mac" in capsys.readouterr().err
