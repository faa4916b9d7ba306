import pytest
import torch

from lightning_cost.zoo.augmentation import Augmentation


def all_versions(image, max_shift, background, flips):
    """Every image that augmentation may give, by slicing and flipping."""
    height, width = image.shape[1:]
    padded = background.view(-1, 1, 1).repeat(1, height + 2 * max_shift, width + 2 * max_shift)
    sources = [image, image.flip(2)] if flips else [image]
    for source in sources:
        padded[:, max_shift : max_shift + height, max_shift : max_shift + width] = source
        for top in range(2 * max_shift + 1):
            for left in range(2 * max_shift + 1):
                yield padded[:, top : top + height, left : left + width].clone()


@pytest.mark.parametrize("flips", [False, True])
def test_gives_each_shift_and_flip_and_nothing_else(flips):
    image = torch.arange(2 * 3 * 4.0).view(2, 3, 4)
    background = torch.tensor([-1.0, -2.0])
    augmentation = Augmentation(max_shift=1, flips=flips)
    images = image.expand(400, -1, -1, -1)
    augmented = augmentation.apply(
        images, background=background, generator=torch.Generator().manual_seed(0)
    )
    expected = {tuple(v.flatten().tolist()) for v in all_versions(image, 1, background, flips)}
    assert {tuple(row.flatten().tolist()) for row in augmented} == expected
    assert len(expected) == (18 if flips else 9)


def test_nothing_to_do_gives_the_images_back():
    images = torch.rand(5, 3, 4, 4)
    augmented = Augmentation(max_shift=0).apply(
        images, background=torch.zeros(3), generator=torch.Generator()
    )
    assert torch.equal(augmented, images)


def test_refuses_a_negative_shift():
    with pytest.raises(ValueError, match=r"max_shift must be >= 0, got -1; give 0"):
        Augmentation(max_shift=-1)
