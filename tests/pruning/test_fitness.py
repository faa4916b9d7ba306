"""Recalibration against statistics computed by hand, and a candidate's loss step by step."""

import copy
import math

import pytest
import torch
from torch import nn

from lightning_cost.pruning.batches import classification_loss
from lightning_cost.pruning.fitness import candidate_loss, recalibrate_batch_norm
from lightning_cost.pruning.groups import channel_groups
from lightning_cost.pruning.plan import Plan
from lightning_cost.pruning.surgery import operated, removal
from tests.reference.random_networks import conv, images, randomised


def _network():
    return randomised(
        nn.Sequential(conv(2, 4), nn.ReLU(), nn.Dropout(0.9), nn.Flatten(), nn.Linear(144, 3))
    )


def _batches(num_batches=3, size=4):
    labels = torch.arange(size) % 3
    return [(images(seed, (size, 2, 6, 6)), labels) for seed in range(num_batches)]


def _change(network):
    grouping = channel_groups(network, images())
    return removal(grouping, Plan(kept={"0.0": (1, 2)}, num_channels={"0.0": 4}))


def test_statistics_are_averages_over_batches():
    network = _network().train()
    norm = network[0][1]
    norm.momentum = 0.3
    batches = _batches()
    recalibrate_batch_norm(network, batches, classification_loss)
    features = [network[0][0](inputs).detach() for inputs, _ in batches]
    means = torch.stack([feature.mean((0, 2, 3)) for feature in features])
    variances = torch.stack([feature.var((0, 2, 3)) for feature in features])
    torch.testing.assert_close(norm.running_mean, means.mean(0))
    torch.testing.assert_close(norm.running_var, variances.mean(0))
    assert norm.momentum == 0.3
    assert all(module.training for module in network.modules())


def test_modes_and_momenta_come_back_after_an_error():
    network = _network().eval()

    def failing(network, batch):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        recalibrate_batch_norm(network, _batches(), failing)
    assert network[0][1].momentum == 0.1
    assert not any(module.training for module in network.modules())


def test_without_batch_norm_nothing_is_run():
    recalibrate_batch_norm(nn.Linear(2, 2), [None], lambda *_: pytest.fail("must not run"))


def test_the_loss_is_the_mean_over_samples():
    network = _network()
    change, calibration = _change(network), _batches(2)
    search = [*_batches(1, size=4), *_batches(1, size=7)]
    state = copy.deepcopy(network.state_dict())
    found = candidate_loss(network, change, calibration, search, classification_loss)
    candidate = operated(network, change)
    recalibrate_batch_norm(candidate, calibration, classification_loss)
    inputs = torch.cat([batch[0] for batch in search])
    labels = torch.cat([batch[1] for batch in search])
    with torch.no_grad():
        expected = classification_loss(candidate.eval(), (inputs, labels)).item()
    assert found == pytest.approx(expected, rel=1e-5)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_nan_and_nothing_to_judge_by_are_infinitely_bad():
    network = _network()
    change = _change(network)
    nan = lambda *_: torch.tensor(float("nan"))  # noqa: E731
    assert candidate_loss(network, change, [], _batches(), nan) == math.inf
    assert candidate_loss(network, change, [], [], classification_loss) == math.inf
