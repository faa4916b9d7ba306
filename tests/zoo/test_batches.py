import numpy as np
import pytest
import torch

from lightning_cost.zoo.batches import EpochShuffle, ImageBatches, channel_statistics


def test_statistics_are_those_of_numpy():
    images = torch.randint(0, 256, (7, 3, 5, 4), dtype=torch.uint8)
    mean, std = channel_statistics(images)
    np.testing.assert_allclose(mean, images.numpy().mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(std, images.numpy().std((0, 2, 3)), rtol=1e-6)


def test_a_constant_channel_is_not_scaled():
    mean, std = channel_statistics(torch.full((2, 1, 3, 3), 9, dtype=torch.uint8))
    assert (mean.tolist(), std.tolist()) == ([9.0], [1.0])


@pytest.fixture
def batches():
    images = torch.randint(0, 256, (6, 2, 3, 3), dtype=torch.uint8)
    mean, std = channel_statistics(images)
    return ImageBatches(images, torch.arange(6), mean=mean, std=std)


def test_a_batch_is_its_items_stacked(batches):
    images, labels = batches.__getitems__([4, 1])
    for row, index in enumerate((4, 1)):
        image, label = batches[index]
        torch.testing.assert_close(images[row], image)
        assert int(labels[row]) == int(label) == index


def test_all_together_have_mean_0_and_deviation_1(batches):
    images, _ = batches.__getitems__(range(6))
    torch.testing.assert_close(images.mean((0, 2, 3)), torch.zeros(2), atol=1e-6, rtol=0)
    deviation = images.std((0, 2, 3), correction=0)
    torch.testing.assert_close(deviation, torch.ones(2), atol=1e-6, rtol=0)


def test_order_follows_from_seed_and_epoch():
    sampler, other_seed = EpochShuffle(50, seed=3), EpochShuffle(50, seed=4)
    epoch_0 = list(sampler)
    sampler.set_epoch(1)
    epoch_1 = list(sampler)
    sampler.set_epoch(0)
    assert list(sampler) == epoch_0
    assert len({tuple(order) for order in (epoch_0, epoch_1, tuple(other_seed))}) == 3
    assert sorted(epoch_0) == sorted(epoch_1) == list(range(50)) != epoch_0
