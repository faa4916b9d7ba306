"""The most bytes that are alive at once in a sequence of operators, for one or many sizes."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Bytes: TypeAlias = npt.NDArray[np.float64]
"""The sizes of one buffer, [N], of N networks that run the same operators."""


@dataclass(frozen=True, slots=True)
class Step:
    """One operator: the buffers that it reads, and the bytes of the new ones that it writes.

    Args:
        reads: Names of the buffers that it reads.
        writes: Bytes of each buffer that it makes, by name.
        is_elementwise: Whether it may write over its input.
        is_recoding: Whether it only quantises or dequantises.
        operator: Its name.
    """

    reads: tuple[int, ...]
    writes: dict[int, int] = field(hash=False)
    is_elementwise: bool = False
    is_recoding: bool = False
    operator: str = ""


def peak_of_steps(steps: Sequence[Step]) -> int:
    """The most bytes alive at any step, every buffer living until it is read for the last time.

    >>> peak_of_steps([Step((), {0: 4}), Step((0,), {1: 8}), Step((1,), {2: 2}), Step((2,), {})])
    12
    """
    num_bytes = {
        name: np.array([size], dtype=np.float64)
        for step in steps
        for name, size in step.writes.items()
    }
    return int(peaks_of_steps(steps, num_bytes).max(initial=0))


def peaks_of_steps(steps: Sequence[Step], num_bytes: Mapping[int, Bytes]) -> Bytes:
    """The peaks [N] of N networks that run the same steps, with buffers of other sizes.

    Args:
        steps: What runs; the bytes in it are not read.
        num_bytes: The bytes [N] of every buffer that a step writes.
    """
    num_networks = len(next(iter(num_bytes.values()), ()))
    peaks = np.zeros(num_networks)
    recodings = [index for index, step in enumerate(steps) if step.is_recoding and step.reads]
    is_widening = np.zeros((len(recodings), num_networks), dtype=bool)
    for row, index in zip(is_widening, recodings, strict=True):
        row[:] = _sum(steps[index].writes, num_bytes) > num_bytes[steps[index].reads[0]]
    patterns, pattern_of = np.unique(is_widening, axis=1, return_inverse=True)
    for place, pattern in enumerate(patterns.T):
        chosen = np.flatnonzero(pattern_of.ravel() == place)
        dequantising = {index for index, is_one in zip(recodings, pattern, strict=True) if is_one}
        sizes = {name: values[chosen] for name, values in num_bytes.items()}
        peaks[chosen] = _peaks(_without(steps, dequantising), sizes)
    return peaks


def without_reuse(steps: Sequence[Step]) -> list[Step]:
    """The steps of a runtime that writes over nothing and stores everything as it is made."""
    return [replace(step, is_elementwise=False, is_recoding=False) for step in steps]


def _peaks(steps: Sequence[Step], made: Mapping[int, Bytes]) -> Bytes:
    stored = _stored_bytes(steps, made)
    last = {name: step for step, ran in enumerate(steps) for name in (*ran.writes, *ran.reads)}
    dying: dict[int, list[int]] = {}
    for name, index in last.items():
        dying.setdefault(index, []).append(name)
    peak = alive = np.zeros(len(next(iter(made.values()), ())))
    for index, step in enumerate(steps):
        alive = alive + _sum(step.writes, stored)
        peak = np.maximum(peak, alive - _reused(step, index, last, stored))
        if index in dying:
            alive = alive - _sum(dying[index], stored)
    return peak


def _reused(
    step: Step, index: int, last: Mapping[int, int], stored: Mapping[int, Bytes]
) -> Bytes | float:
    """Bytes of the output that an element-wise step writes over an input no longer needed."""
    if not step.is_elementwise or not step.writes:
        return 0.0
    written = _sum(step.writes, stored)
    fits = np.zeros(len(written), dtype=bool)
    for name in step.reads:
        if last[name] == index:
            fits |= stored[name] >= written
    return np.where(fits, written, 0.0)


def _without(steps: Sequence[Step], dequantising: Collection[int]) -> list[Step]:
    """The steps with each dequantised tensor read as the quantised one that it comes from."""
    origin: dict[int, int] = {}
    kept = []
    for index, step in enumerate(steps):
        reads = tuple(dict.fromkeys(origin.get(name, name) for name in step.reads))
        if index in dequantising:
            origin.update(dict.fromkeys(step.writes, reads[0]))
        else:
            kept.append(replace(step, reads=reads))
    return kept


def _stored_bytes(steps: Sequence[Step], made: Mapping[int, Bytes]) -> dict[int, Bytes]:
    """Bytes of each buffer; one that is only ever quantised has those of its quantised form."""
    stored = dict(made)
    num_reads = Counter(name for step in steps for name in step.reads)
    for step in reversed(steps):
        if not step.is_elementwise or len(step.writes) != 1:
            continue
        (written,) = step.writes
        is_open = np.ones(len(made[written]), dtype=bool)
        for name in step.reads:
            if num_reads[name] > 1:
                continue
            fits = is_open if step.is_recoding else is_open & (made[name] == made[written])
            smaller = np.minimum(stored[name], stored[written])
            stored[name] = np.where(fits, smaller, stored[name])
            is_open = is_open & ~fits
            if not is_open.any():
                break
    return stored


def _sum(names: Iterable[int], sizes: Mapping[int, Bytes]) -> Bytes:
    empty = np.zeros(len(next(iter(sizes.values()), ())))
    return sum((sizes[name] for name in names), start=empty)
