"""Images in memory, given out a whole batch at a time."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from typing_extensions import override

from lightning_cost.zoo.seeding import generator_for


class ImageBatches(Dataset[tuple[Tensor, Tensor]]):
    """Images in memory that are indexed and normalised a batch at a time.

    Args:
        images: uint8 [N, C, H, W].
        labels: int64 [N].
        mean: Subtracted from each channel, [C].
        std: Each channel is then divided by it, [C].
    """

    def __init__(self, images: Tensor, labels: Tensor, *, mean: Tensor, std: Tensor) -> None:
        self.images = images
        self.labels = labels
        self.mean = mean
        self.std = std

    def __len__(self) -> int:
        return len(self.labels)

    @override
    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        images, labels = self.__getitems__([index])
        return images[0], labels[0]

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Normalised images, float32 [B, C, H, W], and labels, int64 [B]."""
        index = torch.tensor(indices)
        mean, std = self.mean.view(-1, 1, 1), self.std.view(-1, 1, 1)
        return self.images[index].float().sub_(mean).div_(std), self.labels[index]


class EpochShuffle(Sampler[int]):
    """Every sample once, in an order that follows from the seed and the epoch alone.

    Lightning calls :meth:`set_epoch`, so that a resumed run goes on with the order it would have
    had; with several devices it puts its own distributed sampler here.
    """

    def __init__(self, num_samples: int, *, seed: int) -> None:
        self.num_samples = num_samples
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the iterations that start from now on."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_samples

    @override
    def __iter__(self) -> Iterator[int]:
        generator = generator_for(self.seed, self.epoch)
        return iter(torch.randperm(self.num_samples, generator=generator).tolist())


def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [C] of each channel of uint8 images [N, C, H, W], by counting.

    A channel of one value everywhere has nothing to scale: its deviation is given as 1.
    """
    pixels = images.transpose(0, 1).flatten(1)
    counts = torch.stack([channel.bincount(minlength=256) for channel in pixels]).double()
    shares = counts / counts.sum(1, keepdim=True)
    values = torch.arange(256, dtype=torch.float64)
    mean = shares @ values
    std = (shares @ values.square() - mean.square()).clamp(min=0).sqrt()
    return mean.float(), torch.where(std > 0, std, 1.0).float()
