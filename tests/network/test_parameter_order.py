import torch
from torch import nn

from lightning_cost.network.parameter_order import ordered_groups, restore_order


def test_each_group_is_in_the_order_of_the_network():
    network, outside = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), nn.Linear(1, 1)
    first, second = (list(layer.parameters()) for layer in network)
    optimizer = torch.optim.SGD(
        [{"params": [outside.weight, *second[::-1]]}, {"params": first[::-1], "lr": 0.5}], lr=0.1
    )
    restore_order(optimizer.param_groups, network)
    groups = [group["params"] for group in optimizer.param_groups]
    assert [id(p) for p in groups[0]] == [id(p) for p in [*second, outside.weight]]
    assert [id(p) for p in groups[1]] == [id(p) for p in first]
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.5]


def test_a_group_in_an_order_of_its_own_is_told_apart():
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    first, second = (list(layer.parameters()) for layer in network)
    outside = nn.Linear(1, 1).weight
    ordered = torch.optim.SGD([{"params": [*first, *second, outside]}], lr=0.1)
    mixed = torch.optim.SGD([{"params": first}, {"params": second[::-1]}], lr=0.1)
    found = ordered_groups([ordered, mixed], network)
    assert [id(group) for group in found] == [
        id(ordered.param_groups[0]),
        id(mixed.param_groups[0]),
    ]
