"""What the time of a layer depends on, as functions of its channels."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from lightning_cost.runtime.width_layer import WidthLayer

Floats: TypeAlias = npt.NDArray[np.float64]

STEPS = (1, 4, 8, 16, 32, 64)
"""Widths of the stairs that are looked for, in channels."""

_POWERS = (1, 2, 4, 8, 16, 32, 64)
_FOOTPRINTS = tuple(2.0**power for power in range(14, 25))


def stairs(channels: Floats) -> Floats:
    """1 and ``channels`` rounded up to each of ``STEPS``, [..., 1 + num_steps]."""
    rounded = [np.ceil(channels / step) * step for step in STEPS]
    return np.stack([np.ones_like(channels), *rounded], axis=-1)


def overhangs(channels: Floats) -> Floats:
    """Into what power of two the channels divide, and whether a full step leaves a remainder.

    Runtimes have kernels for some multiples, run a second one for a remainder, or fall back to a
    slower one altogether. [..., 11], each 0 or 1: the largest of 1 to 32 that divides; and for each
    step above 1, whether there is a full one and a rest.
    """
    fits = [channels % power == 0 for power in _POWERS]
    is_largest = [here & ~above for here, above in pairwise(fits)]
    steps = np.array(STEPS[1:])
    is_remainder = (channels[..., None] % steps != 0) & (channels[..., None] > steps)
    return np.concatenate([np.stack(is_largest, axis=-1), is_remainder], axis=-1).astype(np.float64)


def layer_features(outs: Floats, ins: Floats, is_new: Floats, *, is_depthwise: bool) -> Floats:
    """Features [N, num_features] of one layer of ``outs`` and ``ins`` channels [N] each.

    All are >= 0. ``is_new`` [N] is 1 where no layer of the same kind with the same channels ran
    before it in the same pass, so that its kernel is not in the caches yet.
    """
    columns = []
    for of_out, of_in, is_once in _blocks(outs, ins, is_depthwise=is_depthwise):
        products = (of_out[:, :, None] * of_in[:, None, :]).reshape(len(outs), -1)
        columns.append(products * is_new[:, None] if is_once else products)
    return np.concatenate(columns, axis=1)


def layer_times(
    coefficients: Floats, outs: Floats, ins: Floats, is_new: Floats, *, is_depthwise: bool
) -> Floats:
    """``layer_features(...) @ coefficients`` [N], many times faster, for whole channels."""
    counts = np.arange(int(max(outs.max(initial=0), ins.max(initial=0))) + 1, dtype=np.float64)
    chosen_outs, chosen_ins = outs.astype(np.int64), ins.astype(np.int64)
    total, once = np.zeros(len(outs)), np.zeros(len(outs))
    start = 0
    for of_out, of_in, is_once in _blocks(counts, counts, is_depthwise=is_depthwise):
        size = of_out.shape[1] * of_in.shape[1]
        block = coefficients[start : start + size].reshape(of_out.shape[1], of_in.shape[1])
        start += size
        taken = np.einsum("nf,nf->n", (of_out @ block)[chosen_outs], of_in[chosen_ins])
        if is_once:
            once += taken
        else:
            total += taken
    times: Floats = total + once * is_new
    return times


def _blocks(
    outs: Floats, ins: Floats, *, is_depthwise: bool
) -> Iterator[tuple[Floats, Floats, bool]]:
    """Functions [N, L] of outputs and [N, R] of inputs, of which every product is a feature.

    And whether they count for new kernels alone.
    """
    one_out, one_in = np.ones((len(outs), 1)), np.ones((len(ins), 1))
    over_out, over_in = overhangs(outs), overhangs(ins)
    line_out = np.stack([one_out[:, 0], outs], axis=1)
    line_in = np.stack([one_in[:, 0], ins], axis=1)
    if is_depthwise:
        yield stairs(outs), one_in, False
        yield np.concatenate([over_out, over_out * outs[:, None]], axis=1), one_in, False
        yield np.concatenate([line_out, over_out], axis=1), one_in, True
        return
    yield stairs(outs), stairs(ins), False
    yield np.concatenate([over_out, over_out * outs[:, None]], axis=1), line_in, False
    yield line_out, np.concatenate([over_in, over_in * ins[:, None]], axis=1), False
    yield line_out, line_in, True
    yield over_out, one_in, True
    yield one_out, over_in, True


def footprint_features(layers: Sequence[WidthLayer], outs: Floats, ins: Floats) -> Floats:
    """What a pass runs through [N, num_features], each between 0 and 1; the first is always 1.

    The weights, as shares of several sizes of memory, and the kernels: how many differ, and how
    many of those have remainders to treat. The more there is, the less of the caches is left to
    every layer.
    """
    held = weight_bytes(layers, outs, ins)[:, None] / np.array(_FOOTPRINTS)
    is_new = novelty(layers, outs, ins)[:, :, None]
    counts = np.arange(int(max(outs.max(initial=0), ins.max(initial=0))) + 1, dtype=np.float64)
    over = overhangs(counts)
    kernels = [
        is_new.mean(axis=1),
        *((is_new * over[channels.astype(np.int64)]).mean(axis=1) for channels in (outs, ins)),
    ]
    return np.concatenate([np.ones((len(outs), 1)), np.minimum(held, 1), *kernels], axis=1)


def footprint_factors(
    coefficients: Floats, layers: Sequence[WidthLayer], outs: Floats, ins: Floats
) -> Floats:
    """``footprint_features(...) @ coefficients`` [N], many times faster."""
    held = weight_bytes(layers, outs, ins)[:, None] / np.array(_FOOTPRINTS)
    counts = np.arange(int(max(outs.max(initial=0), ins.max(initial=0))) + 1, dtype=np.float64)
    over = overhangs(counts)
    constant, of_held, of_new, of_outs, of_ins = np.split(
        coefficients, np.cumsum([1, len(_FOOTPRINTS), 1, over.shape[1]])
    )
    each = of_new + (over @ of_outs)[outs.astype(np.int64)] + (over @ of_ins)[ins.astype(np.int64)]
    kernels = (novelty(layers, outs, ins) * each).mean(axis=1)
    factors: Floats = constant + np.minimum(held, 1) @ of_held + kernels
    return factors


def weight_bytes(layers: Sequence[WidthLayer], outs: Floats, ins: Floats) -> Floats:
    """Bytes of all weights [N] of ``outs`` and ``ins`` channels [N, num_layers]."""
    is_depthwise = np.array([layer.is_depthwise for layer in layers])
    pairs = np.where(is_depthwise, outs, outs * ins)
    total: Floats = pairs @ np.array([layer.bytes_per_weight for layer in layers])
    return total


def novelty(layers: Sequence[WidthLayer], outs: Floats, ins: Floats) -> Floats:
    """1 where no earlier layer has the same signature and channels, else 0, [N, num_layers]."""
    is_new = np.ones_like(outs)
    for place, layer in enumerate(layers):
        for before in range(place):
            if layers[before].signature == layer.signature:
                is_same = (outs[:, before] == outs[:, place]) & (ins[:, before] == ins[:, place])
                is_new[is_same, place] = 0
    return is_new
