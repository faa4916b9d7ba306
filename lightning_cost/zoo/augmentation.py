"""Random shifts and flips of a whole batch at once."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(kw_only=True, slots=True)
class Augmentation:
    """Shift each image by up to a few pixels, and mirror half of them.

    Args:
        max_shift: Most pixels in each direction; 0 for no shift.
        flips: Whether left and right are swapped at random; wrong for digits and letters.

    Raises:
        ValueError: If ``max_shift`` is negative.
    """

    max_shift: int = 2
    flips: bool = False

    def __post_init__(self) -> None:
        if self.max_shift < 0:
            raise ValueError(f"max_shift must be >= 0, got {self.max_shift}; give 0 for no shift")

    def apply(self, images: Tensor, *, background: Tensor, generator: torch.Generator) -> Tensor:
        """New images of the same shape and device.

        Args:
            images: [N, C, H, W].
            background: The value of each channel where a shift uncovers the edge, [C].
            generator: On the CPU: every device draws the same.
        """
        num_images, num_channels, height, width = images.shape
        margin = self.max_shift
        shifts = torch.randint(0, 2 * margin + 1, (2, num_images), generator=generator)
        is_flipped = torch.rand(num_images, generator=generator) < (0.5 if self.flips else 0.0)
        rows = torch.arange(height) + shifts[0].unsqueeze(1)
        columns = torch.arange(width)
        columns = torch.where(is_flipped.unsqueeze(1), columns.flip(0), columns)
        columns = columns + shifts[1].unsqueeze(1)

        padded_nchw = (
            background.to(images)
            .view(1, -1, 1, 1)
            .repeat(num_images, 1, height + 2 * margin, width + 2 * margin)
        )
        padded_nchw[:, :, margin : margin + height, margin : margin + width] = images
        flat_index = rows.unsqueeze(2) * (width + 2 * margin) + columns.unsqueeze(1)
        flat_index = flat_index.view(num_images, 1, -1).expand(-1, num_channels, -1)
        shifted = padded_nchw.flatten(2).gather(2, flat_index.to(images.device))
        return shifted.view(images.shape)
