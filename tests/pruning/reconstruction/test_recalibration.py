"""Recalibration against statistics computed by hand."""

import copy

import pytest
import torch
from torch import nn

from lightning_cost.pruning.batches import classification_loss
from lightning_cost.pruning.reconstruction.recalibration import recalibrate_batch_norm
from tests.reference.random_networks import conv, images, randomised


def _network():
    return randomised(
        nn.Sequential(conv(2, 4), nn.ReLU(), nn.Dropout(0.9), nn.Flatten(), nn.Linear(144, 3))
    )


def _batches(num_batches=3, size=4):
    labels = torch.arange(size) % 3
    return [(images(seed, (size, 2, 6, 6)), labels) for seed in range(num_batches)]


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


def test_a_batch_norm_that_does_not_run_keeps_its_statistics():
    network = _network()
    network.unused = nn.BatchNorm2d(3)
    network.unused(torch.randn(8, 3, 2, 2, generator=torch.Generator().manual_seed(0)))
    before = copy.deepcopy(network.state_dict())

    def forward(network, batch):
        return network[:5](batch[0])

    recalibrate_batch_norm(network, _batches(), forward)
    for name, value in network.unused.state_dict().items():
        assert torch.equal(value, before[f"unused.{name}"]), name
    assert not torch.equal(network[0][1].running_mean, before["0.1.running_mean"])


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
