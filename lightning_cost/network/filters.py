"""Where the filters of a layer lie in its weight."""

from dataclasses import dataclass

from torch import Tensor, nn

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True, kw_only=True, slots=True)
class FilterLayout:
    """How to get at a weight filter by filter, a filter being what makes one output channel.

    Args:
        transposed_groups: The groups of a transposed convolution, whose weight is of shape
            [inputs, filters of a group, ...]; ``None`` where filters are the first dimension.
    """

    transposed_groups: int | None = None

    @classmethod
    def of(cls, layer: nn.Module) -> "FilterLayout":
        """The layout of a layer's weight.

        >>> FilterLayout.of(nn.ConvTranspose2d(4, 6, 3, groups=2))
        FilterLayout(transposed_groups=2)
        """
        return cls(transposed_groups=layer.groups if isinstance(layer, _TRANSPOSED) else None)

    def filters_first(self, weight: Tensor) -> Tensor:
        """``weight``, as the layer holds it, in the shape [filters, inputs of a group, ...].

        >>> layer = nn.ConvTranspose1d(4, 6, 3, groups=2)
        >>> FilterLayout.of(layer).filters_first(layer.weight).shape
        torch.Size([6, 2, 3])
        """
        if self.transposed_groups is None:
            return weight
        return _swapped(weight, self.transposed_groups).contiguous()

    def as_held(self, filters: Tensor) -> Tensor:
        """The inverse of :meth:`filters_first`."""
        if self.transposed_groups is None:
            return filters
        return _swapped(filters, self.transposed_groups)


def _swapped(weight: Tensor, num_groups: int) -> Tensor:
    """[groups × a, b, ...] as [groups × b, a, ...]."""
    if num_groups == 1:
        return weight.transpose(0, 1)
    grouped = weight.reshape(num_groups, weight.shape[0] // num_groups, *weight.shape[1:])
    return grouped.transpose(1, 2).flatten(0, 1)
