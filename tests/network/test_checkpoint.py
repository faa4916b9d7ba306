"""Loading without a Trainer; the whole way through a fit is in tests/integration."""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

import lightning_cost.pruning.structure.surgery  # noqa: F401 - so that its kind is known
from lightning_cost.network.checkpoint import load_compressed
from lightning_cost.network.lineage import (
    CHECKPOINT_KEY,
    lineage_from_list,
    lineage_of,
    replay,
)
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
    with pytest.raises(ValueError, match="must hold tensors and plain data alone"):
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


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "whole file"),
        (b"no checkpoint", "plain data alone|whole file"),
        (7, "as a Trainer saved it, got .* with int"),
        ({CHECKPOINT_KEY: 7}, "entries missing or of another kind"),
        ({CHECKPOINT_KEY: {"network": "", "changes": []}}, "entries missing or of another kind"),
        (
            {CHECKPOINT_KEY: {"network": 7, "changes": []}, "state_dict": {"a": 1}},
            "entries missing or of another kind|nothing of that name",
        ),
        (
            {CHECKPOINT_KEY: {"network": "", "changes": []}, "state_dict": {"weight": 1}},
            "got 'weight' with a int in the checkpoint",
        ),
        (
            {CHECKPOINT_KEY: {"network": "", "changes": {"a": 1}}, "state_dict": {}},
            "a lineage must be a list of records",
        ),
        (
            {
                CHECKPOINT_KEY: {"network": "", "changes": [{"kind": "remove_channels"}]},
                "state_dict": {},
            },
            "got a damaged 'remove_channels'",
        ),
    ],
)
def test_a_checkpoint_that_makes_no_sense_is_named(content, said, tmp_path):
    path = tmp_path / "network.ckpt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match=said):
        load_compressed(nn.Linear(2, 2), path)


def test_changed_bytes_are_not_taken_for_weights(tmp_path):
    network, path = nn.Linear(2, 2), tmp_path / "network.ckpt"
    record = {"network": "", "changes": []}
    torch.save({CHECKPOINT_KEY: record, "state_dict": network.state_dict()}, path)
    content = bytearray(path.read_bytes())
    content[content.index(network.weight.detach().numpy().tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"checkpoint must be a whole file, .* is damaged in"):
        load_compressed(nn.Linear(2, 2), path)


def removing(**changes):
    record = {
        "kind": "remove_channels",
        "kept": {"": {"out": [0, 2]}},
        "sizes": {"": {"out": 3}},
        "attributes": {},
    }
    return [{**record, **changes}]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (removing(kept={"": {"out": [2, 0]}}), "kept must list, ascending"),
        (removing(kept={"": {"out": [0, 0]}}), "kept must list, ascending"),
        (removing(kept={"": {"out": [False, True]}}), "kept must list, ascending"),
        (removing(kept={"": {"out": [0.0, 1.0]}}), "kept must list, ascending"),
        (removing(kept={"": {"out": [0, 10**40]}}), "kept must list, ascending"),
        (removing(attributes={"": {"training": [True, False]}}), "counts that fall"),
        (removing(attributes={"": {"_version": [1, 0]}}), "counts that fall"),
        (removing(attributes={"": {"in_features": [4, 5]}}), "counts that fall"),
        (removing(attributes={"": {"forward": ["x", "y"]}}), "counts that fall"),
    ],
)
def test_a_lineage_changes_nothing_but_channels(changes, said):
    network = nn.Linear(4, 3)
    with pytest.raises(ValueError, match=said):
        replay(network, lineage_from_list(changes))
    assert network.weight.shape == (3, 4)
    assert network.training
