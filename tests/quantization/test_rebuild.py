"""A network is rebuilt to load into: nothing is fitted to the weights that are overwritten."""

import pytest
import torch

from lightning_cost.network.checkpoint import load_compressed
from lightning_cost.network.lineage import CHECKPOINT_KEY, lineage_of, lineage_to_list
from lightning_cost.quantization.packing.packed import load_packed, save_packed
from lightning_cost.quantization.prepare import share_out_terms
from lightning_cost.quantization.schemes import nearest, uniform
from tests.quantization.networks import NETWORKS, SCHEMES, prepared

RULES = {
    "fitted": {},
    "learned": {"learns_scales": True},
    "gradual": {"gradual": [0.5, 1.0]},
}


def stepped(network, x):
    """``network`` after a step, so that nothing in it is as it was when prepared."""
    network.train()(x).sum().backward()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.grad is not None:
                parameter.sub_(0.01 * parameter.grad.sign())
    share_out_terms(network)
    network(x)
    return network.eval()


@pytest.fixture
def fits(monkeypatch):
    """The fits of scales so far: each begins with the largest weights of the filters."""
    calls = []

    def counted(function):
        def call(*args, **kwargs):
            calls.append(function.__name__)
            return function(*args, **kwargs)

        return call

    monkeypatch.setattr(nearest, "largest_of", counted(nearest.largest_of))
    monkeypatch.setattr(uniform, "largest_of", counted(uniform.largest_of))
    return calls


def checkpoint_of(network, path):
    record = {"network": "", "changes": lineage_to_list(lineage_of(network))}
    torch.save({CHECKPOINT_KEY: record, "state_dict": network.state_dict()}, path)
    return path


@pytest.mark.parametrize(
    ("scheme", "rules"),
    [(scheme, "fitted") for scheme in SCHEMES]
    + [(scheme, rules) for scheme in ("int8", "int4") for rules in ("learned", "gradual")],
)
@pytest.mark.parametrize("name", ["residual", "transformer"])
def test_loading_a_checkpoint_fits_no_scale(name, scheme, rules, fits, tmp_path):
    network, x = prepared(name, scheme=scheme, **RULES[rules])
    path = checkpoint_of(stepped(network, x), tmp_path / "model.ckpt")
    expected = network(x)
    assert fits  # what loading has to do without
    torch.manual_seed(1)
    fresh = NETWORKS[name]()
    fits.clear()
    loaded = load_compressed(fresh, path)
    assert fits == []
    assert all(
        torch.equal(value, loaded.state_dict()[key]) for key, value in network.state_dict().items()
    )
    assert torch.equal(loaded(x), expected)
    # and it trains on as the one that was saved does
    for each in (network, loaded):
        each.train()(x).sum().backward()
    for saved, again in zip(network.parameters(), loaded.parameters(), strict=True):
        assert (saved.grad is None) == (again.grad is None)
    assert all(
        torch.equal(value, loaded.state_dict()[key]) for key, value in network.state_dict().items()
    )


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", ["residual", "transformer"])
def test_loading_a_packed_file_fits_no_scale(name, scheme, fits, tmp_path):
    network, x = prepared(name, scheme=scheme)
    path = save_packed(stepped(network, x), tmp_path / "model.packed")
    torch.manual_seed(1)
    fresh = NETWORKS[name]()
    fits.clear()
    loaded = load_packed(fresh, path)
    assert fits == []
    assert torch.equal(loaded(x), network(x))
