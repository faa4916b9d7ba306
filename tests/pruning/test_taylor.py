"""First-order importance against gradients taken one batch at a time."""

import copy

import torch
from torch import nn

from lightning_cost.pruning.batches import classification_loss
from lightning_cost.pruning.saliency import group_saliency
from lightning_cost.pruning.structure.groups import channel_groups
from lightning_cost.pruning.taylor import weight_importance
from tests.reference.random_networks import conv, images, randomised


def _network():
    return randomised(
        nn.Sequential(conv(2, 4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 3))
    )


def test_it_is_the_mean_square_of_weight_times_gradient():
    network, labels = _network().train(), torch.arange(4) % 3
    batches = [(images(seed, (4, 2, 6, 6)), labels) for seed in range(3)]
    network[4].weight.requires_grad_(False)
    state = copy.deepcopy(network.state_dict())
    found = weight_importance(network, batches, classification_loss)

    reference = copy.deepcopy(network).eval()
    reference[4].weight.requires_grad_(True)
    expected = {name: torch.zeros_like(value) for name, value in reference.named_parameters()}
    for inputs, targets in batches:
        reference.zero_grad()
        nn.functional.cross_entropy(reference(inputs), targets).backward()
        for name, value in reference.named_parameters():
            expected[name] += (value * value.grad).detach().square()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value / 3)
        assert not found[name].requires_grad
    assert network.training
    assert not network[4].weight.requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_a_shared_weight_is_found_under_all_its_names():
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3))
    network[2].weight = network[1].weight
    batches = [(torch.randn(4, 3), torch.arange(4) % 3)]
    found = weight_importance(network, batches, classification_loss)
    classification_loss(network, batches[0]).backward()
    expected = (network[1].weight * network[1].weight.grad).detach().square()
    assert found.keys() == dict(network.named_parameters(remove_duplicate=False)).keys()
    for name in ("1.weight", "2.weight"):
        torch.testing.assert_close(found[name], expected)
    grouping = channel_groups(network, batches[0][0])
    saliency = group_saliency(network, grouping, "taylor", importance=found)
    assert saliency.keys() == grouping.num_channels.keys()
