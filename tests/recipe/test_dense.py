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
