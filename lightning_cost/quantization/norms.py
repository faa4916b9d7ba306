"""Batch norms that train as they are and run as a part of the layer before them."""

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class FoldableNorm(_BatchNorm):
    """A batch norm whose layer takes over its arithmetic once its statistics stand still.

    In training it normalises by the batch, as before: so learning rates mean what they meant, and
    a shift of the activations is followed. In evaluation, and in training once :meth:`freeze` was
    called, it passes its input on, and its layer multiplies each filter by :meth:`scale` and adds
    :meth:`shift`, which is what is deployed. Its state is in the state dict.
    """

    is_frozen: Tensor

    def forward(self, input: Tensor) -> Tensor:
        """Normalised, or ``input`` itself while :attr:`is_folded`."""
        if self.is_folded:
            return input
        # the batch norm that this one was made from
        normalised: Tensor = super().forward(input)
        return normalised

    @property
    def is_folded(self) -> bool:
        """Whether the layer before does its arithmetic."""
        return not self.training or bool(self.is_frozen)

    def freeze(self) -> None:
        """Keep the statistics as they are from now on."""
        self.is_frozen.fill_(1)

    def scale(self) -> Tensor:
        """What each filter is multiplied by, [filters]."""
        assert self.running_var is not None
        scale = torch.rsqrt(self.running_var + self.eps)
        return scale if self.weight is None else scale * self.weight

    def shift(self, bias: Tensor) -> Tensor:
        """The layer's bias [filters] together with this norm's."""
        assert self.running_mean is not None
        shift = (bias - self.running_mean) * self.scale()
        return shift if self.bias is None else shift + self.bias


def make_foldable(norm: nn.Module) -> FoldableNorm:
    """Turn a batch norm, in place, into one that can be folded; its parameters stay the same."""
    assert isinstance(norm, _BatchNorm)
    assert norm.running_var is not None
    if not isinstance(norm, FoldableNorm):
        kind: Any = type(norm)
        norm.__class__ = _foldable(kind)
        frozen = torch.zeros((), dtype=torch.uint8, device=norm.running_var.device)
        norm.register_buffer("is_frozen", frozen)
    assert isinstance(norm, FoldableNorm)
    return norm


def freeze_norms(network: nn.Module) -> None:
    """Keep the statistics of all foldable batch norms as they are from now on."""
    for module in network.modules():
        if isinstance(module, FoldableNorm):
            module.freeze()


@cache
def _foldable(kind: Any) -> Any:
    return type(f"Foldable{kind.__name__}", (FoldableNorm, kind), {})
