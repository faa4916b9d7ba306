import copy
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from lightning_cost.network.deploy import deployed_copy
from lightning_cost.network.lineage import Change, apply_change


@dataclass(frozen=True, kw_only=True, slots=True)
class Doubling(Change):
    """Trains as it is, and is deployed with doubled first weights."""

    kind = "test_doubling"

    def apply(self, network):
        return []

    def deploy(self, network):
        if not hasattr(network, "is_doubled"):
            network[0].weight.mul_(2)
            network.is_doubled = True

    def to_dict(self):
        return {}

    @classmethod
    def from_dict(cls, data):
        return cls()


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.ReLU())


@pytest.fixture
def x():
    return torch.randn(4, 1, 5, 5)


def test_computes_what_the_network_does_in_evaluation(network, x):
    network(x)  # moves the running statistics
    deployed = deployed_copy(network, x)
    assert isinstance(deployed[1], nn.Identity)
    assert torch.allclose(deployed(x), network.eval()(x), atol=1e-6)


def test_leaves_the_network_as_it_was(network, x):
    network(x).sum().backward()
    before = copy.deepcopy(network.state_dict())
    deployed = deployed_copy(network, x)
    assert network.training
    assert network[0].weight.grad is not None
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not deployed.training
    assert all(p.grad is None and not p.requires_grad for p in deployed.parameters())


def test_lineage_is_deployed_wherever_it_hangs(network, x):
    apply_change(network, Doubling())
    whole = nn.Sequential(network, nn.Flatten())
    deployed = deployed_copy(whole, x)
    plain = deployed_copy(nn.Sequential(*copy.deepcopy(network)), x)
    assert torch.equal(deployed[0][0].weight, 2 * plain[0].weight)


def test_deployed_form_of_a_deployed_network_is_the_same(network, x):
    apply_change(network, Doubling())
    once = deployed_copy(network, x)
    twice = deployed_copy(once, x)
    assert torch.equal(once(x), twice(x))


def test_inside_inference_mode(network, x):
    with torch.inference_mode():
        deployed = deployed_copy(network, x)
    assert not deployed[0].weight.is_inference()


def test_meta_device_stays(network, x):
    deployed = deployed_copy(network.to("meta"), x)
    assert deployed[0].weight.is_meta
    assert isinstance(deployed[1], nn.Identity)
