"""What the time of a layer depends on, as functions of its channels."""

from collections.abc import Sequence
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
    is_largest = [here & ~above for here, above in zip(fits[:-1], fits[1:], strict=True)]
    steps = np.array(STEPS[1:])
    is_remainder = (channels[..., None] % steps != 0) & (channels[..., None] > steps)
    return np.concatenate([np.stack(is_largest, axis=-1), is_remainder], axis=-1).astype(np.float64)


def layer_features(outs: Floats, ins: Floats, is_new: Floats, *, is_depthwise: bool) -> Floats:
    """Features [N, num_features] of one layer of ``outs`` and ``ins`` channels [N] each.

    All are >= 0. ``is_new`` [N] is 1 where no layer of the same kind with the same channels ran
    before it in the same pass, so that its kernel is not in the caches yet.
    """
    up_out, over_out = stairs(outs), overhangs(outs)
    if is_depthwise:
        parts = [up_out, over_out, over_out * outs[:, None]]
        once = np.concatenate([up_out[:, :2], over_out], axis=1)
    else:
        up_in, over_in = stairs(ins), overhangs(ins)
        pairs = outs * ins
        parts = [
            _products(up_out, up_in),
            *(over_out * size[:, None] for size in (np.ones_like(ins), outs, ins, pairs)),
            *(over_in * size[:, None] for size in (np.ones_like(ins), outs, ins, pairs)),
        ]
        sizes = np.stack([np.ones_like(outs), outs, ins, pairs], axis=1)
        once = np.concatenate([sizes, over_out, over_in], axis=1)
    return np.concatenate([*parts, once * is_new[:, None]], axis=1)


def _products(left: Floats, right: Floats) -> Floats:
    """Every product of a column [N, L] with one [N, R], [N, L R]."""
    return (left[:, :, None] * right[:, None, :]).reshape(len(left), -1)


def footprint_features(layers: Sequence[WidthLayer], outs: Floats, ins: Floats) -> Floats:
    """What a pass runs through [N, num_features], each between 0 and 1.

    The weights, as shares of several sizes of memory, and the kernels: how many differ, and how
    many of those have remainders to treat. The more there is, the less of the caches is left to
    every layer.
    """
    held = weight_bytes(layers, outs, ins)[:, None] / np.array(_FOOTPRINTS)
    is_new = novelty(layers, outs, ins)
    kernels = [
        is_new[..., None],
        is_new[..., None] * overhangs(outs),
        is_new[..., None] * overhangs(ins),
    ]
    return np.concatenate(
        [np.minimum(held, 1), *(kernel.mean(axis=1) for kernel in kernels)], axis=1
    )


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
