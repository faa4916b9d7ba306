import pytest
import torch
from torch import nn

from lightning_cost.cost.measurement import Method
from lightning_cost.cost.resource import Resource
from lightning_cost.hardware.device import Hardware
from lightning_cost.monitor.measure import measure


@pytest.fixture
def network():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Dropout())


EXAMPLE = torch.zeros(2, 1, 4, 4)


def test_costs_are_those_of_the_network_as_deployed(network):
    cost = measure(network, EXAMPLE)
    values = {resource.value: measurement.value for resource, measurement in cost.items()}
    # folded: 2 filters of 9 weights and a bias; output 2x2x2, input 4x4
    assert values == {
        "macs": 72,
        "flops": 144,
        "params": 20,
        "size_bytes": 80,
        "peak_memory_bytes": 4 * (16 + 8),
    }
    assert {measurement.method for measurement in cost.values()} == {Method.exact}


def test_it_leaves_network_and_random_state_as_found(network):
    network.train()
    network[0].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    state = torch.get_rng_state()
    measure(network, EXAMPLE, hardware=Hardware.local(runtime="eager"))
    assert torch.equal(state, torch.get_rng_state())
    assert modes == [module.training for module in network.modules()]
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(module._forward_hooks for module in network.modules())


def test_hardware_adds_what_it_can_price(network):
    cost = measure(network, EXAMPLE, hardware=Hardware.load("nvidia_t4"))
    assert set(cost) == set(Resource)
    assert cost[Resource.latency_ms].method is Method.estimated
    cost = measure(network, EXAMPLE, hardware=Hardware.load("cortex_m7"))
    assert set(Resource) - set(cost) == {Resource.energy_mj, Resource.usd_per_million}


def test_only_what_is_asked_for(network):
    assert list(measure(network, EXAMPLE, resources=["params", Resource.macs])) == [
        Resource.params,
        Resource.macs,
    ]


def test_meta_networks_are_counted():
    with torch.device("meta"):
        network = nn.Conv2d(1, 2, 3)
    assert measure(network, torch.zeros(1, 1, 4, 4), resources=["macs"])[Resource.macs].value == 72


def test_unknown_resource(network):
    with pytest.raises(ValueError, match=r"resources must be among macs, .*got 'watts'; check"):
        measure(network, EXAMPLE, resources=["watts"])


def test_latency_without_hardware(network):
    with pytest.raises(ValueError, match="hardware must be given to price latency_ms, got None"):
        measure(network, EXAMPLE, resources=["latency_ms"])


def test_energy_on_hardware_without_power(network):
    with pytest.raises(ValueError, match="power_w of hardware 'local' must be known to price"):
        measure(network, EXAMPLE, hardware=Hardware.local(), resources=["energy_mj"])
