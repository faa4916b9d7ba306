"""A float that is rounded forward and not backward."""

from typing import Any

import torch
from torch import Tensor


def straight_through(value: Tensor, rounded: Tensor) -> Tensor:
    """``rounded``, with the gradient of ``value``.

    >>> value = torch.tensor([0.3], requires_grad=True)
    >>> straight_through(value, value.detach().round()).sum().backward()
    >>> value.grad
    tensor([1.])
    """
    passed: Tensor = _StraightThrough.apply(value, rounded)  # type: ignore[no-untyped-call]
    return passed


class _StraightThrough(torch.autograd.Function):
    """The second argument forward, the identity on the first backward."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, rounded: Tensor) -> Tensor:
        return rounded

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None
