import pytest
import torch

from lightning_cost.network.lineage import lineage_of
from lightning_cost.recipe.dense import DenseSnapshot
from lightning_cost.recipe.layers import layer_bits, layer_widths
from tests.monitor.halving import Classifier, Halve, loader, make_trainer


def test_the_snapshot_is_of_the_network_just_before_the_first_change(tmp_path):
    seen = {}

    class Watching(DenseSnapshot):
        def on_train_epoch_end(self, trainer, pl_module):
            super().on_train_epoch_end(trainer, pl_module)
            state = pl_module.network.state_dict()
            seen[trainer.current_epoch] = {name: value.clone() for name, value in state.items()}

    snapshot = Watching(tmp_path / "dense.pt")
    module = Classifier()
    make_trainer(tmp_path, [snapshot, Halve(2)], max_epochs=4).fit(module, loader())
    dense = snapshot.load_into(Classifier().network)
    assert not dense.training
    assert lineage_of(dense) == ()
    assert all(torch.equal(seen[1][name], value) for name, value in dense.state_dict().items())
    assert set(torch.load(tmp_path / "dense.pt", weights_only=True)) == set(dense.state_dict())

    assert layer_widths(dense, module.network) == {"0": (8, 4), "2": (2, 2)}
    assert layer_bits(module.network) == {}


def flipped(path):
    """One byte of the first tensor is another one."""
    content = bytearray(path.read_bytes())
    weight = torch.load(path, weights_only=True)["0.weight"].numpy().tobytes()
    content[content.index(weight)] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "flipped": (flipped, "the dense network must be a whole file, got .* which is damaged in"),
    "cut off": (lambda path: path.write_bytes(path.read_bytes()[:-50]), "the dense network must"),
    "gone": (lambda path: path.unlink(), "the dense network must be a file, got"),
    "other": (lambda path: torch.save(7, path), "saved it, got .* with int"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_snapshot_is_named_when_the_fit_goes_on_and_when_it_is_loaded(name, tmp_path):
    damage, message = DAMAGES[name]
    snapshot = DenseSnapshot(tmp_path / "dense.pt")
    module = Classifier()
    trainer = make_trainer(tmp_path, [snapshot, Halve(1)], max_epochs=2)
    trainer.fit(module, loader())
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    damage(snapshot.path)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        snapshot.load_into(Classifier().network)
    again = make_trainer(tmp_path, [snapshot, Halve(1)], max_epochs=3)
    with pytest.raises(ValueError, match=message):
        again.fit(Classifier(), loader(), ckpt_path=tmp_path / "last.ckpt")


def test_a_snapshot_of_another_network_is_named(tmp_path):
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "dense.pt")
    with pytest.raises(ValueError, match="must be of the same architecture as the network"):
        DenseSnapshot(tmp_path / "dense.pt").load_into(Classifier().network)
