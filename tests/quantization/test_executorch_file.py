import importlib.util

import pytest
import torch
from torch import nn

from lightning_cost.network.deploy import deployed_copy
from lightning_cost.quantization import executorch_file
from lightning_cost.quantization.convert import stored_layers
from lightning_cost.quantization.executorch_file import _for_xnnpack, write_executorch
from lightning_cost.runtime.executorch import open_executorch
from lightning_cost.runtime.parity import check_parity
from tests.quantization.networks import prepared

is_installed = importlib.util.find_spec("executorch") is not None


@pytest.mark.slow
@pytest.mark.skipif(not is_installed, reason="executorch is not installed")
@pytest.mark.parametrize("name", ["residual", "functional"])
def test_parity_on_executorch(name, tmp_path):
    network, x = prepared(name)
    deployed = deployed_copy(network, x)
    before = {name: value.clone() for name, value in deployed.state_dict().items()}
    path = write_executorch(deployed, x[:4], tmp_path / "model.pte")
    assert all(torch.equal(value, before[key]) for key, value in deployed.state_dict().items())
    with open_executorch(path) as session:
        parity = check_parity(deployed, session, x, max_error_ratio=0.03)
        assert parity.passed, parity
        assert parity.num_samples == 16
        with pytest.raises(ValueError, match=r"a multiple of 4 samples, .* got 3; cut it"):
            session.run(x[:3])


@pytest.mark.slow
@pytest.mark.skipif(not is_installed, reason="executorch is not installed")
def test_file_that_computes_something_else_is_refused(tmp_path, monkeypatch):
    network, x = prepared("residual")
    deployed = deployed_copy(network, x)

    def other(network, in_float=()):
        return nn.Sequential(_for_xnnpack(network, in_float), nn.Softmax(1))

    monkeypatch.setattr(executorch_file, "_for_xnnpack", other)
    with pytest.raises(ValueError, match="must compute on ExecuTorch what it does in PyTorch, got"):
        write_executorch(deployed, x[:1], tmp_path / "model.pte")
    assert not (tmp_path / "model.pte").exists()
    (tmp_path / "earlier.pte").write_bytes(b"as it was")
    with pytest.raises(ValueError, match="must compute on ExecuTorch what it does in PyTorch, got"):
        write_executorch(deployed, x[:1], tmp_path / "earlier.pte")
    assert [path.name for path in tmp_path.iterdir()] == ["earlier.pte"]
    assert (tmp_path / "earlier.pte").read_bytes() == b"as it was"


def test_signed_form_is_the_same_network():
    for name in ("residual", "transposed", "transformer"):
        network, x = prepared(name)
        deployed = deployed_copy(network, x)
        assert torch.equal(_for_xnnpack(deployed)(x), deployed(x))
        last = list(stored_layers(deployed))[-1]
        in_part = _for_xnnpack(deployed, in_float={last})
        assert torch.equal(in_part(x), deployed(x))
        names = dict(in_part.named_buffers())
        assert f"{last}.stored_weight.values" not in names
        assert names[f"{last}.stored_weight.value"].dtype is torch.float32


def test_other_endings(tmp_path):
    with pytest.raises(ValueError, match=r"path must end in \.pte for ExecuTorch, got '.*model'"):
        write_executorch(nn.Linear(2, 2), torch.zeros(1, 2), tmp_path / "model")


def test_without_executorch(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="written with the package executorch, which is missing"):
        write_executorch(nn.Linear(2, 2), torch.zeros(1, 2), tmp_path / "model.pte")
    with pytest.raises(ValueError, match="read with the package executorch, which is missing"):
        open_executorch(tmp_path / "model.pte")
