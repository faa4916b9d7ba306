"""What every scheme is: a grid of integers, and a scale for each filter."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from torch import Tensor

from lightning_cost.quantization.schemes.nearest import fitted_scale, nearest_levels
from lightning_cost.quantization.settings import require_type


@dataclass(kw_only=True, slots=True)
class Scheme(ABC):
    """A way to put weights on an integer grid; activations are 8 bits in every scheme.

    Whatever the scheme, integers fit into int8 and come with one scale for each filter, so that
    every scheme is deployed through the same operators.

    Raises:
        ValueError: If a setting is of another type than its default.
    """

    name: ClassVar[str]

    def __post_init__(self) -> None:
        for each in fields(self):
            if isinstance(each.default, bool | int | float):
                told = f"{each.name} of scheme {self.name!r}"
                require_type(told, getattr(self, each.name), each.default)

    @property
    @abstractmethod
    def weight_bits(self) -> float:
        """Bits that one weight needs; the mean over the weights where that varies."""

    @property
    @abstractmethod
    def levels(self) -> tuple[int, ...]:
        """The magnitudes on the grid, ascending from 0; every one has both signs."""

    def fit_scale(self, weight: Tensor, previous: Tensor | None = None) -> Tensor:
        """The scale of each filter that suits ``weight``: by default of the least squared error.

        Args:
            weight: Of shape [filters, ...].
            previous: The scales of a slightly different weight, to go on from.

        Returns:
            Positive, of shape [filters], float32.
        """
        return fitted_scale(weight, self.levels, previous)

    def quantize_weight(self, weight: Tensor, scale: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The nearest weight on the grid.

        Args:
            weight: Of shape [filters, ...].
            scale: Of shape [filters]; the one that :meth:`fit_scale` finds if left out.

        Returns:
            Integers of the same shape as int8, and their scales of shape [filters] as float32;
            the product approximates ``weight``.
        """
        scale = self.fit_scale(weight) if scale is None else scale
        return nearest_levels(weight, scale, self.levels), scale

    def to_dict(self) -> dict[str, Any]:
        """The scheme as JSON-compatible data."""
        return {"name": self.name, **asdict(self)}
