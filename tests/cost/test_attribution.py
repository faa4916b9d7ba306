import torch
from torch import nn

from lightning_cost.cost.attribution import Attribution
from lightning_cost.cost.flop_counter import FlopCounter


def test_an_operator_belongs_to_every_module_that_is_running():
    network = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), nn.Linear(2, 2))
    attribution, seen = Attribution(network), []
    counter = FlopCounter(
        lambda operation: seen.append((operation, attribution.modules_of(operation)))
    )
    with attribution.following(), counter, torch.no_grad():
        network(torch.zeros(1, 2))
    products = [modules for operation, modules in seen if operation.flops]
    assert products == [{"", "0", "0.0"}, {"", "1"}]
    assert {"", "0", "0.1"} in [modules for operation, modules in seen if "relu" in operation.name]


def test_hooks_are_gone_afterwards_also_after_an_error():
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(3, 3))
    attribution = Attribution(network)
    try:
        with attribution.following():
            network(torch.zeros(1, 2))
    except RuntimeError:
        pass
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
    assert attribution.unused() == ()
