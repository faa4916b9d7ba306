"""In what steps of channels a layer's time grows, found in what was measured."""

import itertools
from dataclasses import dataclass

import numpy as np

from lightning_cost.hardware.tables.latency_table import LatencyTable
from lightning_cost.hardware.tables.nonnegative import fit_nonnegative
from lightning_cost.hardware.tables.width_features import STEPS, Floats

_LEAST_GAIN = 0.05
_FEWEST_SAMPLES = 20
_ROUNDING = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class Staircase:
    """The steps of one kind of layer.

    Args:
        out_step: Output channels up to the next multiple of this cost the same.
        in_step: The same for input channels; 1 for a depthwise layer.
        error_ratio: Median error of time as a smooth function of channels on these stairs.
        smooth_error_ratio: The same without stairs.
    """

    out_step: int
    in_step: int
    error_ratio: float
    smooth_error_ratio: float


def staircases(table: LatencyTable) -> dict[str, Staircase]:
    """The steps of each layer of ``table``, by signature.

    A step larger than 1 is only told where it explains the times better by a twentieth or more;
    layers that were measured fewer than 20 times are left out.
    """
    found = {}
    for signature, (outs, ins, times, is_depthwise) in _samples(table).items():
        in_steps = (1,) if is_depthwise else STEPS
        errors = {
            steps: _error(outs, ins, times, steps, is_depthwise=is_depthwise)
            for steps in itertools.product(STEPS, in_steps)
        }
        best = min(errors, key=lambda steps: errors[steps])
        if errors[1, 1] - errors[best] < max(_LEAST_GAIN * errors[1, 1], _ROUNDING):
            best = (1, 1)
        found[signature] = Staircase(
            out_step=best[0],
            in_step=best[1],
            error_ratio=errors[best],
            smooth_error_ratio=errors[1, 1],
        )
    return found


def alignment(table: LatencyTable) -> int:
    """The step of output channels that most of the time is spent on, in layers of ``table``.

    Networks whose channels are multiples of it spend least on steps that are not full.
    """
    shares: dict[int, float] = {}
    found = staircases(table)
    for signature, (_, _, times, _) in _samples(table).items():
        step = found[signature].out_step
        shares[step] = shares.get(step, 0.0) + float(times.sum())
    return max(shares, key=lambda step: (shares[step], -step), default=1)


def _samples(table: LatencyTable) -> dict[str, tuple[Floats, Floats, Floats, bool]]:
    columns: dict[str, list[tuple[Floats, Floats, Floats]]] = {}
    is_depthwise: dict[str, bool] = {}
    for network in table.networks:
        observed = network.observations()
        for place, layer in enumerate(network.layers):
            is_depthwise[layer.signature] = layer.is_depthwise
            columns.setdefault(layer.signature, []).append(
                (observed.outs[:, place], observed.ins[:, place], observed.layer_ms[:, place])
            )
    merged = {}
    for signature, parts in columns.items():
        outs, ins, times = (np.concatenate(column) for column in zip(*parts, strict=True))
        is_known = times > 0
        if is_known.sum() >= _FEWEST_SAMPLES:
            merged[signature] = (
                outs[is_known],
                ins[is_known],
                times[is_known],
                is_depthwise[signature],
            )
    return merged


def _error(
    outs: Floats, ins: Floats, times: Floats, steps: tuple[int, int], *, is_depthwise: bool
) -> float:
    """Median error of a fit on stairs of these steps."""
    up_out, up_in = (
        np.ceil(channels / step) * step for channels, step in zip((outs, ins), steps, strict=True)
    )
    columns = [np.ones_like(outs), up_out]
    if not is_depthwise:
        columns += [up_in, up_out * up_in]
    features = np.stack(columns, axis=1)
    fitted = features @ fit_nonnegative(features, times, ridge=0)
    return float(np.median(np.abs(fitted / times - 1)))
