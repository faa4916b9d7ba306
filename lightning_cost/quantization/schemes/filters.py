"""Numbers that belong to filters, the first dimension of a weight."""

import torch
from torch import Tensor


def per_filter(vector: Tensor, weight: Tensor) -> Tensor:
    """``vector`` [filters] in a shape that multiplies ``weight`` [filters, ...]."""
    return vector.reshape(-1, *[1] * (weight.dim() - 1))


def largest_of(weight: Tensor) -> Tensor:
    """The largest magnitude in each filter of ``weight`` [filters, ...], never quite zero."""
    largest = weight.detach().float().abs().flatten(1).amax(1)
    return largest.clamp_min(torch.finfo(torch.float32).eps)
