"""Ctrl-C in any phase leaves a checkpoint, and the resumed run comes to the budget."""

import signal

import pytest
import pytorch_lightning as pl
import torch

from lightning_cost.network.checkpoint import load_compressed
from lightning_cost.network.lineage import lineage_of
from lightning_cost.zoo.resnet import resnet8
from tests.integration import setting

# Lightning's word on an epoch that is resumed in its middle with a plain DataLoader
pytestmark = pytest.mark.filterwarnings(
    "ignore:You're resuming from a checkpoint that ended before"
)

PHASES = {"warmup": 1, "prune": 2, "recover": 4, "quantize": 6}


@pytest.fixture(autouse=True)
def _listening_again():
    """Lightning ignores further interrupts after the first."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


class CtrlC(pl.Callback):
    """Interrupts in the middle of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, trainer, *_) -> None:
        if trainer.current_epoch == self.epoch:
            raise KeyboardInterrupt


@pytest.mark.parametrize("phase", PHASES)
def test_ctrl_c_leaves_a_checkpoint_and_the_run_goes_on(tmp_path, phase):
    callbacks = [*setting.callbacks(), CtrlC(PHASES[phase])]
    trainer = setting.trainer(tmp_path, callbacks)
    with pytest.raises(SystemExit):
        trainer.fit(setting.module(), datamodule=setting.data())
    left = tmp_path / "interrupted.ckpt"
    assert left.exists()

    module, callbacks = setting.module(), setting.callbacks()
    again = setting.trainer(tmp_path, callbacks)
    again.fit(module, datamodule=setting.data(), ckpt_path=left)
    kinds = [change.kind for change in lineage_of(module.network)]
    assert kinds == ["remove_channels", "remove_channels", "prepare_quantization"]
    assert callbacks[-1].stop_reason.startswith("model budget kept")


def test_ctrl_c_during_the_search_leaves_the_dense_network(tmp_path, monkeypatch):
    def interrupted(*_args, **_settings):
        raise KeyboardInterrupt

    monkeypatch.setattr("lightning_cost.pruning.search.run.learn_ranking", interrupted)
    trainer = setting.trainer(tmp_path, setting.callbacks())
    with pytest.raises(SystemExit):
        trainer.fit(setting.module(), datamodule=setting.data())
    monkeypatch.undo()
    saved = torch.load(tmp_path / "interrupted.ckpt", weights_only=True)
    assert saved["lightning_cost_lineage"]["changes"] == []
    module, callbacks = setting.module(), setting.callbacks()
    setting.trainer(tmp_path, callbacks).fit(
        module, datamodule=setting.data(), ckpt_path=tmp_path / "interrupted.ckpt"
    )
    assert callbacks[-1].stop_reason.startswith("model budget kept")


def test_an_interrupted_checkpoint_loads_without_a_trainer(tmp_path):
    trainer = setting.trainer(tmp_path, [*setting.callbacks(), CtrlC(4)])
    with pytest.raises(SystemExit):
        trainer.fit(setting.module(), datamodule=setting.data())
    network = load_compressed(resnet8(width=8, in_channels=1), tmp_path / "interrupted.ckpt")
    assert network(torch.zeros(1, 1, 8, 8)).shape == (1, 10)
