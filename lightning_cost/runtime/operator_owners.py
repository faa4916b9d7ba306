"""To which layer of a network each operator belongs that a runtime made of its graph."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True, slots=True)
class OperatorOwners:
    """Runtimes fuse and rename the operators of a graph; their names begin with those they had.

    Args:
        places: Index of the layer by name of node and of tensor in the graph.
        num_layers: How many layers there are.
    """

    places: Mapping[str, int]
    num_layers: int

    def divide(
        self, operators: Sequence[Sequence[Any]]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """Time of each layer, and how many operators it was, [num_layers] each.

        Args:
            operators: [name, names of the graph's nodes in it, time] each, in order of execution.
                One that carries no name of the graph, such as a change of layout, belongs to the
                layer before it.

        >>> owners = OperatorOwners(places={"conv": 0, "conv_1": 1}, num_layers=2)
        >>> times, counts = owners.divide([["conv_1_fused", [], 2.0], ["Reorder", [], 1.0]])
        >>> times.tolist(), counts.tolist()
        ([0.0, 3.0], [0, 2])
        """
        times, counts = np.zeros(self.num_layers), np.zeros(self.num_layers, dtype=np.int64)
        place = 0
        for name, contents, taken in operators:
            owners = [self._owner(part) for part in (*contents, name)]
            place = next((owner for owner in owners if owner is not None), place)
            times[place] += taken
            counts[place] += 1
        return times, counts

    def _owner(self, name: str) -> int | None:
        """The layer of the longest name of the graph that ``name`` begins with."""
        end = len(name)
        while end > 0:
            if name[:end] in self.places:
                return self.places[name[:end]]
            end = max(name.rfind("_", 0, end), name.rfind("/", 0, end))
        return None
