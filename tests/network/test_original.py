import copy
import warnings

import pytest
import torch
from torch import nn

from lightning_cost import export, load_compressed, load_packed, measure, save_packed
from lightning_cost.network.dataflow import trace_dataflow
from lightning_cost.network.lineage import CHECKPOINT_KEY, apply_change, lineage_of, lineage_to_list
from lightning_cost.network.original import original_of
from lightning_cost.quantization.calibrate import calibrate
from lightning_cost.quantization.plan import plan_quantization
from lightning_cost.runtime.contract import open_file


@pytest.fixture
def network():
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)]
    return nn.Sequential(*layers).eval()


def wrapped(network):
    return torch.compile(network, backend="eager")


def test_a_compiled_network_costs_what_it_does_without(network):
    x = torch.randn(2, 1, 6, 6)
    assert measure(wrapped(network), x) == measure(network, x)


def test_a_compiled_network_is_written_and_read(network, tmp_path):
    x = torch.randn(2, 1, 6, 6)
    fresh = copy.deepcopy(network)
    apply_change(network, plan_quantization(network, x))
    calibrate(network, [x])
    expected = network(x).detach()
    packed = save_packed(wrapped(network), tmp_path / "network.packed")
    loaded = load_packed(wrapped(copy.deepcopy(fresh)), packed)
    assert torch.equal(original_of(loaded)(x), expected)
    record = {"network": "network._orig_mod", "changes": lineage_to_list(lineage_of(network))}
    state = {f"network._orig_mod.{name}": value for name, value in network.state_dict().items()}
    torch.save({CHECKPOINT_KEY: record, "state_dict": state}, tmp_path / "network.ckpt")
    loaded = load_compressed(wrapped(copy.deepcopy(fresh)), tmp_path / "network.ckpt")
    assert torch.equal(original_of(loaded)(x), expected)
    path = export(wrapped(network), tmp_path / "network.onnx", x)
    with open_file(path, runtime="onnxruntime", num_threads=1) as session:
        (found,) = session.run(x)
    assert abs(torch.as_tensor(found) - expected).max() < 0.02 * expected.abs().max()


@pytest.mark.parametrize("place", ["at '1'", "as a whole"])
def test_torchscript_is_named(network, place):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit warns of its age
        scripted = torch.jit.script(network)
    whole = scripted if place == "as a whole" else nn.Sequential(nn.Identity(), scripted)
    x = torch.randn(2, 1, 6, 6)
    for look in (measure, trace_dataflow):
        with pytest.raises(ValueError, match=f"got TorchScript {place}; give it as it was before"):
            look(whole, x)


def test_lazy_layers_that_never_ran_are_named(tmp_path):
    x = torch.randn(2, 1, 6, 6)

    def build():
        return nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))

    asked = "got a lazy one at '0.weight'; run it once on a batch"
    with pytest.raises(ValueError, match=asked):
        measure(build(), x)
    trained = build().eval()
    expected = trained(x)
    assert measure(trained, x)
    record = {"network": "", "changes": []}
    checkpoint = {CHECKPOINT_KEY: record, "state_dict": trained.state_dict()}
    torch.save(checkpoint, tmp_path / "network.ckpt")
    fresh = build()
    with pytest.raises(ValueError, match=asked):
        load_compressed(fresh, tmp_path / "network.ckpt")
    fresh(x)
    assert torch.equal(load_compressed(fresh, tmp_path / "network.ckpt")(x), expected)
