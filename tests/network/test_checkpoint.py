"""Loading without a Trainer; the whole way through a fit is in tests/integration."""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from lightning_cost.network.checkpoint import load_compressed
from lightning_cost.network.lineage import lineage_of
from tests.monitor.halving import Classifier, Halve, KeepHidden, loader, make_trainer


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A fit that halved its network, and its checkpoint."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    module = Classifier()
    trainer = make_trainer(folder, [Halve(1)], max_epochs=2)
    trainer.fit(module, loader())
    trainer.save_checkpoint(folder / "end.ckpt", weights_only=False)
    return module, folder / "end.ckpt"


def test_a_fresh_network_becomes_the_compressed_one(run):
    module, path = run
    fresh = Classifier().network
    loaded = load_compressed(fresh, path)
    assert loaded is fresh
    assert not loaded.training
    assert lineage_of(loaded) == (KeepHidden(kept=(0, 1, 2, 3)),)
    inputs = torch.randn(5, 4)
    assert torch.equal(loaded(inputs), module.network.eval()(inputs))


def test_loading_twice_changes_nothing(run):
    _, path = run
    network = load_compressed(Classifier().network, path)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    load_compressed(network, path)
    assert len(lineage_of(network)) == 1
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    torch.save({"state_dict": {}, "surprise": nn.Linear(1, 1)}, tmp_path / "pickled.ckpt")
    with pytest.raises(Exception, match="Weights only load failed"):
        load_compressed(nn.Linear(1, 1), tmp_path / "pickled.ckpt")


def test_a_checkpoint_without_lineage(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "plain.ckpt")
    message = r"checkpoint must carry a lineage, got '.*plain.ckpt' without one; save it from"
    with pytest.raises(ValueError, match=message):
        load_compressed(nn.Linear(1, 1), tmp_path / "plain.ckpt")


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.ckpt"):
        load_compressed(nn.Linear(1, 1), tmp_path / "nothing.ckpt")


def test_another_architecture(run):
    _, path = run
    wider_input = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    message = r"same architecture.*'0.weight' with \(4, 4\) in the checkpoint and \(4, 6\)"
    with pytest.raises(ValueError, match=message):
        load_compressed(wider_input, path)


def test_a_network_with_another_past(run):
    _, path = run
    network = Classifier().network
    from lightning_cost.network.lineage import apply_change

    apply_change(network, KeepHidden(kept=(0, 7)))
    with pytest.raises(ValueError, match="must be fresh or an earlier stage of the same run"):
        load_compressed(network, path)


def test_the_whole_module_may_be_the_network(tmp_path):
    class Whole(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.layers = nn.Linear(2, 2)

    module = Whole()
    torch.save(
        {
            "state_dict": module.state_dict(),
            "lightning_cost_lineage": {"network": "", "changes": []},
        },
        tmp_path / "whole.ckpt",
    )
    loaded = load_compressed(Whole(), tmp_path / "whole.ckpt")
    assert torch.equal(loaded.layers.weight, module.layers.weight)
