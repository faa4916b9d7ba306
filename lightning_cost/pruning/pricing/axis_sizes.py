"""How many channels each layer has, as a function of the widths of the groups."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from lightning_cost.pruning.structure.grouping import Grouping
from lightning_cost.pruning.structure.layers import Axis, is_consuming

Floats: TypeAlias = npt.NDArray[np.float64]
_LARGEST_NUM_PROBES = 64


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AxisSizes:
    """Output and input sizes of layers: constant + slope x widths.

    Args:
        modules: The layers that some group runs through; parameters in no known kind of layer.
        totals: Channels of each group in the dense network, [num_groups].
        slopes: For output and input axes, [2, num_groups, num_modules].
        constants: For output and input axes, [2, num_modules]; 0 where there is no such axis.
    """

    modules: tuple[str, ...]
    totals: npt.NDArray[np.int64]
    slopes: Floats
    constants: Floats

    @classmethod
    def from_grouping(cls, grouping: Grouping) -> "AxisSizes":
        """The axis sizes of a network's layers."""
        names = {
            column_name(name, axis): None for name, axes in grouping.sizes.items() for axis in axes
        }
        modules = tuple(names)
        column = {name: place for place, name in enumerate(modules)}
        totals = np.array(list(grouping.num_channels.values()), dtype=np.int64)
        slopes = np.zeros((2, len(grouping.groups), len(modules)))
        for row, group in enumerate(grouping.groups):
            for member in group.members:
                place = column[column_name(member.module, member.axis)]
                slopes[int(is_consuming(member.axis)), row, place] += member.positions_per_channel
        dense = np.zeros((2, len(modules)))
        for name, axes in grouping.sizes.items():
            for axis, size in axes.items():
                dense[int(is_consuming(axis)), column[column_name(name, axis)]] = size
        constants = dense - np.einsum("g,agm->am", totals.astype(np.float64), slopes)
        return cls(modules=modules, totals=totals, slopes=slopes, constants=constants)

    def at(self, widths: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
        """Output and input sizes [N, num_modules] for widths [N, num_groups]."""
        values = widths.astype(np.float64)
        outs, ins = (self.constants[axis] + values @ self.slopes[axis] for axis in range(2))
        return outs, ins

    def telling_widths(self) -> npt.NDArray[np.int64]:
        """Few width assignments, dense first, that tell outputs from inputs in every layer."""
        generator = np.random.default_rng(0)
        rows = [self.totals]
        if not len(self.totals):
            return np.stack(rows)
        smallest = np.maximum(1, self.totals // 2)
        for _ in range(_LARGEST_NUM_PROBES):
            upper = np.maximum(smallest, self.totals - 1)
            rows.append(generator.integers(smallest, upper, endpoint=True))
            if len(rows) > 2:  # beyond the first probe some groups stay whole
                is_whole = generator.random(len(self.totals)) < 0.5
                rows[-1] = np.where(is_whole, self.totals, rows[-1])
            if self._tells_apart(np.stack(rows)):
                break
        return np.stack(rows)

    def _tells_apart(self, widths: npt.NDArray[np.int64]) -> bool:
        outs, ins = self.at(widths)
        is_alike = (outs * ins[0] == ins * outs[0]).all(axis=0)
        has_both = (outs[0] > 0) & (ins[0] > 0)
        for module in np.flatnonzero(is_alike & has_both):
            out, into = (
                np.append(self.slopes[axis, :, module], self.constants[axis, module])
                for axis in range(2)
            )
            if (out * ins[0, module] != into * outs[0, module]).any():
                return False
        return True


def column_name(module: str, axis: Axis) -> str:
    """What the sizes of an axis are found under: its layer, or its parameter.

    >>> column_name("encoder", "out"), column_name("encoder", "in:weight_hh_l0:1")
    ('encoder', 'encoder.weight_hh_l0')
    """
    parameter = axis.split(":")[1:2]
    return ".".join(part for part in (module, *parameter) if part)
