"""Weights that are fitted after a cut give back what the network gave before."""

import copy

import pytest
import torch
from torch import nn

from lightning_cost.pruning.batches import classification_loss
from lightning_cost.pruning.reconstruction.least_squares import (
    LARGEST_FAN_IN,
    Reconstruction,
    largest_fit_flops,
)
from lightning_cost.pruning.structure.groups import channel_groups
from lightning_cost.pruning.structure.plan import Plan
from lightning_cost.pruning.structure.surgery import operated, removal
from lightning_cost.zoo.resnet import resnet8


def generator():
    return torch.Generator().manual_seed(0)


def forward(network, batch):
    return network(batch)


def removing(network, example, ratio=0.5, exclude=()):
    """The change that keeps the first ``ratio`` of the channels of each group."""
    grouping = channel_groups(network, example, exclude=exclude)
    plan = Plan(
        kept={name: tuple(range(round(n * ratio))) for name, n in grouping.num_channels.items()},
        num_channels=grouping.num_channels,
    )
    return removal(grouping, plan)


def twin_channels():
    """A network whose hidden channels are two copies of each other, up to a scale."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Conv2d(6, 3, 3, padding=1), nn.Flatten(), nn.Linear(3 * 25, 4),
    )  # fmt: skip
    with torch.no_grad():
        network[0].weight[3:] = network[0].weight[:3] * 2
    return network.eval()


def test_what_can_be_said_without_the_removed_channels_is_said_exactly():
    network, batch = twin_channels(), torch.randn(64, 2, 5, 5, generator=generator())
    with torch.no_grad():  # statistics of this batch, as the fit takes them
        features = network[0](batch)
        network[1].running_mean.copy_(features.mean((0, 2, 3)))
        network[1].running_var.copy_(features.var((0, 2, 3)))
    change = removing(network, batch[:1], exclude=["3"])
    assert change.kept["0"]["out"] == (0, 1, 2)
    before = network(batch)
    cut = copy.deepcopy(operated(network, change))
    assert not torch.allclose(cut(batch), before, rtol=0.05, atol=0.05)
    flops = Reconstruction(network, batch, forward).fit(cut, change)
    assert flops > 0
    torch.testing.assert_close(cut(batch), before, rtol=0.02, atol=0.02)


def test_a_layer_is_fitted_as_well_as_least_squares_can():
    """One hidden layer, no batch norm: the textbook solution, by another solver."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    batch = torch.randn(200, 5, generator=generator())
    change = removing(network, batch[:1])
    cut = copy.deepcopy(operated(network, change))
    Reconstruction(network, batch, forward).fit(cut, change)
    with torch.no_grad():
        hidden = cut[1](cut[0](batch))
        wanted = network(batch) - cut[2].bias
        weight = torch.linalg.lstsq(hidden, wanted).solution.T
        missed = (network(batch) - cut(batch)).square().mean()
        least = (wanted - hidden @ weight.T).square().mean()
    assert least > 0.001
    assert missed <= least * 1.01


def test_it_lowers_the_loss_of_a_trained_network(trained_resnet8):
    network, batches = trained_resnet8
    change = removing(network, batches[0][0][:1])
    plain = copy.deepcopy(operated(network, change))
    fitted = copy.deepcopy(operated(network, change))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    Reconstruction(network, batches[0], classification_loss).fit(fitted, change)
    with torch.no_grad():
        losses = [
            float(classification_loss(candidate.eval(), batches[1]))
            for candidate in (plain, fitted, network.eval())
        ]
    assert losses[2] < losses[1] < 0.7 * losses[0], losses
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.fixture(scope="module")
def trained_resnet8():
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 8 - 1
    labels = torch.tensor(digits.target)
    torch.manual_seed(0)
    network = resnet8(width=8, in_channels=1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for _ in range(60):
        chosen = torch.randperm(1200)[:64]
        optimizer.zero_grad()
        classification_loss(network, (images[chosen], labels[chosen])).backward()
        optimizer.step()
    return network, [(images[:512], labels[:512]), (images[1200:], labels[1200:])]


def test_nothing_removed_changes_nothing():
    network, batch = twin_channels(), torch.randn(64, 2, 5, 5, generator=generator())
    network[1].momentum = None
    network[1].train()
    network(batch)  # the statistics that the fit finds
    network.eval()
    change = removing(network, batch[:1], 1)
    cut = copy.deepcopy(network)
    Reconstruction(network, batch, forward).fit(cut, change)
    for mine, theirs in zip(cut.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-3)


def test_modes_and_momenta_are_as_before():
    network, batch = twin_channels(), torch.randn(16, 2, 5, 5, generator=generator())
    change = removing(network, batch[:1])
    cut = copy.deepcopy(operated(network, change)).train()
    cut[1].eval()
    Reconstruction(network, batch, forward).fit(cut, change)
    assert [module.training for module in cut] == [True, False, True, True, True, True]
    assert cut[1].momentum == 0.1
    assert not cut[0]._forward_pre_hooks
    assert not network[0]._forward_hooks


class Twice(nn.Module):
    """A layer that runs twice in one forward pass, behind one that loses channels."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 6)
        self.last = nn.Linear(6, 2)

    def forward(self, inputs):
        hidden = torch.relu(self.first(inputs))
        return self.last(torch.relu(self.second(torch.relu(self.second(hidden)))))


def test_a_layer_that_runs_twice_keeps_its_weights():
    torch.manual_seed(0)
    network, batch = Twice().eval(), torch.randn(32, 4, generator=generator())
    cut = copy.deepcopy(network)
    with torch.no_grad():
        cut.first.weight[0] = 0
    change = removal(*_nothing(network, batch))
    before = cut.second.weight.clone(), cut.last.weight.clone()
    Reconstruction(network, batch, forward).fit(cut, change)
    assert torch.equal(cut.second.weight, before[0])
    assert not torch.equal(cut.last.weight, before[1])


def test_layers_that_share_a_weight_keep_it():
    torch.manual_seed(0)
    network = nn.Sequential(*(nn.Linear(6, 6) for _ in range(4))).eval()
    network[2].weight = network[1].weight
    batch, cut = torch.randn(32, 6, generator=generator()), copy.deepcopy(network)
    with torch.no_grad():
        cut[0].weight[0] = 0
    before = cut[1].weight.clone(), cut[3].weight.clone()
    Reconstruction(network, batch, forward).fit(cut, removal(*_nothing(network, batch)))
    assert torch.equal(cut[1].weight, before[0])
    assert not torch.equal(cut[3].weight, before[1])


def _nothing(network, batch):
    grouping = channel_groups(network, batch[:1])
    return grouping, Plan.dense(grouping)


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_inputs_that_tell_nothing_leave_the_weights(value):
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    batch = torch.full((8, 3), value)
    with torch.no_grad():
        network[0].bias.zero_()
    change = removing(network, torch.zeros(1, 3))
    cut = copy.deepcopy(operated(network, change))
    before = [parameter.clone() for parameter in cut.parameters()]
    Reconstruction(network, batch, forward).fit(cut, change)
    assert all(map(torch.equal, cut.parameters(), before))


def test_very_wide_layers_keep_their_weights():
    network = nn.Sequential(nn.Linear(2, LARGEST_FAN_IN + 2), nn.ReLU())
    network.append(nn.Linear(LARGEST_FAN_IN + 2, 2)).eval()
    batch = torch.randn(8, 2, generator=generator())
    change = removing(network, batch[:1], 1 - 1 / (LARGEST_FAN_IN + 2))
    cut = copy.deepcopy(operated(network, change))
    before = cut[2].weight.clone()
    Reconstruction(network, batch, forward).fit(cut, change)
    assert torch.equal(cut[2].weight, before)


def test_what_it_takes_is_counted_and_known_before():
    network, batch = twin_channels(), torch.randn(64, 2, 5, 5, generator=generator())
    change = removing(network, batch[:1])
    cut = copy.deepcopy(operated(network, change))
    looking = Reconstruction(network, batch, forward)
    passes = 2 * (64 * 25 * 18 * 6 + 64 * 25 * 54 * 3 + 64 * 75 * 4)
    assert looking.flops == passes
    found = looking.fit(cut, change)
    assert 0 < found < passes + largest_fit_flops(network)
    kept = [(18, 3, 1600), (27, 2, 1600), (50, 4, 64)]
    products = sum(2 * n * fan_in * out for fan_in, out, n in kept)
    # inputs by inputs, by what is missing, and the old weights' own product
    fits = sum(2 * n * fan_in * (fan_in + 2 * out) for fan_in, out, n in kept)
    solving = sum(2 * fan_in**3 // 3 + 2 * fan_in**2 * out for fan_in, out, _ in kept)
    assert found == products + fits + solving


def test_a_layer_that_runs_with_other_weights_keeps_its_own():
    class Doubled(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.inner, self.last = nn.Linear(8, 6), nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, x):
            weights = {name: 2 * value for name, value in self.inner.named_parameters()}
            return self.last(torch.func.functional_call(self.inner, weights, (self.first(x),)))

    network, batch = Doubled(), (torch.randn(32, 8), torch.randint(3, (32,)))
    before = network.inner.weight.detach().clone()
    grouping = channel_groups(network, batch[0])
    kept = {group.name: tuple(range(group.num_channels)) for group in grouping.groups}
    kept["first"] = (0, 2, 4)
    change = removal(grouping, Plan(kept=kept, num_channels=grouping.num_channels))
    reconstruction = Reconstruction(network, batch, classification_loss)
    pruned = copy.deepcopy(operated(network, change))
    reconstruction.fit(pruned, change)
    assert torch.equal(pruned.inner.weight, before[:, [0, 2, 4]])
