"""Work whose amount is a product of channels of any two layers, such as attention scores."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lightning_cost.pruning.pricing.axis_sizes import AxisSizes, Floats

_DIGITS = 10


class Products:
    """Finds the two sizes that an amount of work is a product of.

    Args:
        sizes: Of all layers, as functions of the widths.
        widths: Some widths [num_rows, num_groups] that tell the sizes apart.
    """

    def __init__(self, sizes: AxisSizes, widths: npt.NDArray[np.int64]) -> None:
        one = np.zeros(len(sizes.totals) + 1)
        one[-1] = 1
        self.functions = np.vstack([one, distinct_sizes(sizes)])
        points = np.column_stack([widths, np.ones(len(widths))]).astype(np.float64)
        self._values = self.functions @ points.T
        self._pairs: dict[bytes, list[tuple[int, int]]] | None = None

    def matching(self, values: Floats) -> tuple[float, int, int] | None:
        """Coefficient and two functions whose product takes ``values`` [num_rows].

        ``None`` if there are none.
        """
        for first, second in self._found().get(_key(values), ()):
            product = self._values[first] * self._values[second]
            if (values * product[0] == product * values[0]).all():
                return float(values[0] / product[0]), first, second
        return None

    def _found(self) -> dict[bytes, list[tuple[int, int]]]:
        if self._pairs is None:
            self._pairs = {}
            usable = np.flatnonzero((self._values > 0).all(axis=1))
            for place, first in enumerate(usable):
                products = self._values[first] * self._values[usable[place:]]
                for second, values in zip(usable[place:], products, strict=True):
                    self._pairs.setdefault(_key(values), []).append((int(first), int(second)))
        return self._pairs


def distinct_sizes(sizes: AxisSizes) -> Floats:
    """Slopes and constant of every layer's outputs and inputs that vary, [M, num_groups + 1].

    Without common factors, as flattening brings them in, and each once.
    """
    slopes = np.concatenate([sizes.slopes[0].T, sizes.slopes[1].T])
    constants = np.concatenate([sizes.constants[0], sizes.constants[1]])
    functions = np.column_stack([slopes, constants])[slopes.any(axis=1)].round().astype(np.int64)
    if not len(functions):
        return functions.astype(np.float64)
    functions //= np.gcd.reduce(functions, axis=1, keepdims=True)
    return np.unique(functions, axis=0).astype(np.float64)


def total_of(
    products: Sequence[tuple[float, int, int]],
    functions: Floats,
    widths: npt.NDArray[np.int64],
) -> Floats:
    """The sum [N] of products at widths [N, num_groups]."""
    if not products:
        return np.zeros(len(widths))
    used, places = np.unique([pair[1:] for pair in products], return_inverse=True)
    values = widths.astype(np.float64) @ functions[used, :-1].T + functions[used, -1]
    first, second = places.reshape(-1, 2).T
    coefficients = np.array([pair[0] for pair in products])
    total: Floats = (values[:, first] * values[:, second]) @ coefficients
    return total


def _key(values: Floats) -> bytes:
    """The same for values that are multiples of each other."""
    return bytes((values / values[0]).round(_DIGITS).tobytes())
