import copy

import pytest
import torch
from torch import nn

from lightning_cost import export, measure
from lightning_cost.cost.duplicate import duplicated
from lightning_cost.quantization.plan import plan_quantization


class Remembering(nn.Module):
    """Keeps what it saw, in an attribute, a list and a buffer."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.seen, self.several = None, []
        self.register_buffer("last", torch.zeros(2))

    def forward(self, x):
        self.seen = self.layer(x)
        self.several = [self.seen.relu(), {"again": self.seen}]
        self.last = self.seen[0]
        return self.seen


def trained(network, x):
    network(x).sum().backward()
    with pytest.raises(RuntimeError, match="deepcopy protocol"):
        copy.deepcopy(network)
    return network


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("kind", ["remembering", "weight_norm", "spectral_norm"])
def test_a_network_is_copied_after_a_pass_that_left_tensors_in_it(kind, tmp_path):
    torch.manual_seed(0)
    x = torch.randn(4, 3)
    if kind == "remembering":
        network = trained(Remembering(), x)
    else:
        layers = [getattr(nn.utils, kind)(nn.Linear(3, 4)), nn.ReLU(), nn.Linear(4, 2)]
        network = trained(nn.Sequential(*layers), x)
    expected = network.eval()(x)
    copied = duplicated(network)
    assert torch.equal(copied(x), expected)
    ours = {id(tensor) for tensor in [*network.parameters(), *network.buffers()]}
    assert not ours & {id(tensor) for tensor in [*copied.parameters(), *copied.buffers()]}
    network(x)
    assert measure(network, x)
    network(x)
    assert plan_quantization(network, x).sources
    network(x)
    assert export(network, tmp_path / "network.onnx", x).exists()


def test_what_is_shared_is_not_copied():
    network = nn.Linear(3, 2)
    copied = duplicated(network, {id(network.weight): network.weight})
    assert copied.weight is network.weight
    assert copied.bias is not network.bias


def test_tensors_stay_one_where_they_were_one():
    network = trained(Remembering(), torch.randn(4, 3))
    copied = duplicated(network)
    assert copied.several[1]["again"] is copied.seen
    assert torch.equal(copied.seen, network.seen)
