"""Dividing labelled samples into parts that all have the same share of every class."""

from collections.abc import Sequence

import torch
from torch import Tensor


def stratified_split(
    labels: Tensor, sizes: Sequence[int], *, generator: torch.Generator
) -> list[Tensor]:
    """Disjoint random parts of the samples, each with every class in its share of the whole.

    Args:
        labels: Class of each sample, integers [N].
        sizes: Samples of each part but the last, which gets the rest.
        generator: Decides which samples go where.

    Returns:
        The sample positions of each part in ascending order, one part more than ``sizes`` has.

    Raises:
        ValueError: If the sizes do not leave at least one sample to the last part.

    >>> labels = torch.tensor([0, 1] * 10)
    >>> held_out, rest = stratified_split(labels, [4], generator=torch.Generator())
    >>> labels[held_out].bincount().tolist(), len(rest)
    ([2, 2], 16)
    """
    num_samples = len(labels)
    if min(sizes, default=0) < 0 or sum(sizes) >= num_samples:
        raise ValueError(
            f"sizes of held-out parts must be >= 0 and sum to less than the {num_samples} samples, "
            f"got {list(sizes)}; lower the ratios or give more data"
        )
    order = _interleaved(labels, generator)
    parts = torch.split(order, [*sizes, num_samples - sum(sizes)])
    return [part.sort().values for part in parts]


def _interleaved(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Sample positions in an order whose every stretch has all classes in proportion."""
    shuffled = torch.randperm(len(labels), generator=generator)
    position = torch.empty(len(labels), dtype=torch.float64)
    for label in torch.unique(labels):
        members = shuffled[labels[shuffled] == label]
        position[members] = (torch.arange(len(members), dtype=torch.float64) + 0.5) / len(members)
    # classes tie where they are equally large: broken at random, not by class
    return shuffled[position[shuffled].argsort(stable=True)]
