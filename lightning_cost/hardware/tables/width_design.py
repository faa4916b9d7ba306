"""Which widths of a network to measure, so that the rest can be predicted."""

import numpy as np
import numpy.typing as npt

Widths = npt.NDArray[np.int64]

_SMALLEST_RATIO = 0.08
_GROUP_SPREAD = 0.4
_MULTIPLES = (1, 2, 4, 8, 16, 32)


def width_design(totals: Widths, num_networks: int, generator: np.random.Generator) -> Widths:
    """Widths [num_networks, num_groups] that together tell how each layer's time grows.

    The dense network first. The others are wide or narrow as a whole and differ between their
    groups; a third in any number of channels, the rest in multiples of 2 to 32, on which the steps
    of a device usually lie. A longer design begins with the shorter one of the same generator.

    Args:
        totals: Channels of each group in the dense network [num_groups].
        num_networks: How many, at least 1.
        generator: Source of the random widths.
    """
    rows = [totals]
    for index in range(num_networks - 1):
        ratio = generator.uniform(_SMALLEST_RATIO, 1)
        ratios = np.minimum(ratio * np.exp(generator.normal(0, _GROUP_SPREAD, len(totals))), 1)
        draw = generator.integers(1, len(_MULTIPLES))
        multiple = 1 if index % 3 == 0 else _MULTIPLES[draw]
        rounded = np.maximum(np.round(totals * ratios / multiple), 1) * multiple
        rows.append(np.minimum(rounded, totals).astype(np.int64))
    return np.stack(rows)
