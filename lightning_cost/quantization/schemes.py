"""How the weights of a network become integers."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from typing_extensions import override


@dataclass(kw_only=True, slots=True)
class Scheme(ABC):
    """A way to put weights on an integer grid; activations are 8 bits in every scheme.

    Whatever the scheme, integers fit into int8 and come with one scale for each filter, so that
    every scheme is deployed through the same operators.
    """

    name: ClassVar[str]

    @property
    @abstractmethod
    def weight_bits(self) -> int:
        """Bits that one weight needs."""

    @abstractmethod
    def quantize_weight(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest weight on the grid.

        Args:
            weight: Of shape [filters, ...].

        Returns:
            Integers of the same shape as int8, and their scales of shape [filters] as float32;
            the product approximates ``weight``.
        """

    def to_dict(self) -> dict[str, Any]:
        """The scheme as JSON-compatible data."""
        return {"name": self.name, **asdict(self)}


@dataclass(kw_only=True, slots=True)
class Int8(Scheme):
    """Symmetric 8-bit weights with one scale for each filter.

    Args:
        reduced_range: Use 7 bits. On x86 CPUs without VNNI some kernels add pairs of 8-bit
            products in 16 bits, which overflows for large weights; 7 bits cannot.

    >>> values, scale = Int8().quantize_weight(torch.tensor([[1.27, -0.5, 0.004]]))
    >>> values.tolist(), round(scale.item(), 4)
    ([[127, -50, 0]], 0.01)
    """

    name: ClassVar[str] = "int8"
    reduced_range: bool = False

    @property
    @override
    def weight_bits(self) -> int:
        return 7 if self.reduced_range else 8

    @override
    def quantize_weight(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        limit = 2 ** (self.weight_bits - 1) - 1
        largest = weight.detach().float().abs().flatten(1).amax(1)
        scale = largest.clamp_min(torch.finfo(torch.float32).eps) / limit
        steps = weight.detach() / scale.reshape(-1, *[1] * (weight.dim() - 1))
        return steps.round().clamp(-limit, limit).to(torch.int8), scale


SCHEMES: dict[str, type[Scheme]] = {Int8.name: Int8}
"""Every scheme by its name."""


def get_scheme(scheme: Scheme | str) -> Scheme:
    """The scheme of a name, with its defaults; a scheme is returned as it is.

    >>> get_scheme("int8")
    Int8(reduced_range=False)

    Raises:
        ValueError: If there is no scheme of that name.
    """
    if isinstance(scheme, Scheme):
        return scheme
    return scheme_from_dict({"name": scheme})


def scheme_from_dict(data: Mapping[str, Any]) -> Scheme:
    """The inverse of :meth:`Scheme.to_dict`.

    Raises:
        ValueError: If there is no scheme of that name.
    """
    settings = dict(data)
    name = settings.pop("name", None)
    if name not in SCHEMES:
        known = ", ".join(repr(known) for known in SCHEMES)
        raise ValueError(f"scheme must be one of {known}, got {name!r}; choose one of these names")
    return SCHEMES[name](**settings)
