"""Exact peak memory of width assignments, without building the networks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lightning_cost.cost.liveness import Step, peaks_of_steps
from lightning_cost.pruning.pricing.axis_sizes import AxisSizes, Floats
from lightning_cost.pruning.pricing.products import distinct_sizes

_LARGEST_NUM_PROBES = 16


class UnpriceableError(ValueError):
    """A network whose peak memory does not follow from the widths of its groups."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MemoryPricer:
    """Peak memory of any widths of a network that runs the same operators with all of them.

    Every buffer's bytes are a constant plus a sum over the groups of width times slope: a
    concatenation's are those of its parts. Which, is read off networks of a few widths: a buffer
    has the channels of some layer's outputs or inputs, whatever their number.

    Args:
        steps: What the network runs.
        buffers: The names of its buffers.
        slopes: Bytes of each buffer per channel of each group, [num_groups, num_buffers].
        constants: Bytes of each buffer that do not depend on the widths, [num_buffers].
    """

    steps: tuple[Step, ...]
    buffers: tuple[int, ...]
    slopes: Floats
    constants: Floats

    @classmethod
    def from_steps(
        cls, recorded: Sequence[Sequence[Step]], sizes: AxisSizes, widths: npt.NDArray[np.int64]
    ) -> "MemoryPricer":
        """A pricer for a network that was recorded with several widths.

        Args:
            recorded: What it ran with each of the widths.
            sizes: Axis sizes of its layers.
            widths: The widths [num_recordings, num_groups], as from ``telling_widths``.

        Raises:
            UnpriceableError: If it runs other operators with other widths, or the bytes of a
                buffer depend on the widths in another way.
        """
        steps = tuple(recorded[0])
        for row, others in enumerate(recorded):
            for step, other in zip(steps, others, strict=False):
                if _structure(step) != _structure(other):
                    raise _other_operators(step, other, widths[row])
            if len(others) != len(steps):
                raise _other_operators(steps[-1], others[-1], widths[row])
        forms = _Forms.of_layers(sizes, widths)
        found: dict[int, Floats] = {}
        for place, step in enumerate(steps):
            read = [found[name] for name in step.reads if name in found]
            for name in step.writes:
                values = np.array([run[place].writes[name] for run in recorded], dtype=np.float64)
                found[name] = forms.matching(values, read, step.operator)
        table = np.stack(list(found.values()), axis=1)
        return cls(
            steps=steps, buffers=tuple(found), slopes=table[:-1].copy(), constants=table[-1].copy()
        )

    def price(self, widths: npt.NDArray[np.int64]) -> Floats:
        """Peak bytes [N] of widths [N, num_groups]."""
        num_bytes = (widths.astype(np.float64) @ self.slopes + self.constants).T.copy()
        return peaks_of_steps(self.steps, dict(zip(self.buffers, num_bytes, strict=True)))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Forms:
    """Numbers of channels that buffers may have, as functions of the widths.

    Args:
        functions: Slopes and, last, the constant of each, [num_functions, num_groups + 1].
        points: The widths of the recordings with a column of ones, [num_recordings, groups + 1].
    """

    functions: Floats
    points: Floats

    @classmethod
    def of_layers(cls, sizes: AxisSizes, widths: npt.NDArray[np.int64]) -> "_Forms":
        functions = distinct_sizes(sizes)
        points = np.column_stack([widths, np.ones(len(widths))]).astype(np.float64)
        return cls(functions=functions, points=points)

    def matching(self, values: Floats, read: Sequence[Floats], operator: str) -> Floats:
        """Slopes and constant of the function that takes ``values`` at the points.

        A constant, so many bytes per channel of some layer, or the sum of what was read.
        """
        if (values == values[0]).all():
            constant = np.zeros(self.points.shape[1])
            constant[-1] = values[0]
            return constant
        at_points = self.functions @ self.points.T
        for function, channels in zip(self.functions, at_points, strict=True):
            if (channels > 0).all() and (values * channels[0] == values[0] * channels).all():
                matched: Floats = function * (values[0] / channels[0])
                return matched
        together = np.sum(read, axis=0) if read else np.zeros(self.points.shape[1])
        if (self.points @ together == values).all():
            return together
        raise UnpriceableError(
            f"peak_memory_bytes is not predicted from widths, but measured: what {operator} writes "
            "does not have the channels of any layer"
        )


def with_memory_probes(widths: npt.NDArray[np.int64], sizes: AxisSizes) -> npt.NDArray[np.int64]:
    """Widths [num_rows, num_groups] and as many more as tell the channels of all layers apart.

    One of them is the narrowest network, which runs other operators if any does.
    """
    if not len(sizes.totals):
        return widths
    generator = np.random.default_rng(1)
    functions = distinct_sizes(sizes)
    rows = [*widths, np.ones_like(sizes.totals)]
    for _ in range(_LARGEST_NUM_PROBES):
        points = np.column_stack([np.stack(rows), np.ones(len(rows))])
        values = functions @ points.T
        scaled = values / np.maximum(values[:, :1], 1)
        if len(np.unique(scaled.round(12), axis=0)) == len(functions):
            break
        rows.append(generator.integers(1, sizes.totals, endpoint=True))
    return np.stack(rows)


def _structure(step: Step) -> tuple[object, ...]:
    return (replace(step, writes={}), tuple(step.writes))


def _other_operators(step: Step, other: Step, widths: npt.NDArray[np.int64]) -> UnpriceableError:
    return UnpriceableError(
        "peak_memory_bytes is not predicted from widths, but measured: the network runs "
        f"{other.operator or 'other operators'} with the widths {widths.tolist()}, where it runs "
        f"{step.operator or 'others'} with all channels"
    )
