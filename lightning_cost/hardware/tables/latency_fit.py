"""The model behind the latency predictor: what layers take, and what a pass takes besides.

A layer takes a non-negative sum of functions of its channels (:mod:`width_features`), one for each
signature. All layers of a network slow down together as its weights fill the caches. The pass takes
a constant and a multiple of the sum.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lightning_cost.hardware.tables.nonnegative import fit_nonnegative
from lightning_cost.hardware.tables.width_features import (
    Floats,
    footprint_factors,
    footprint_features,
    layer_features,
    layer_times,
    novelty,
)
from lightning_cost.runtime.width_layer import WidthLayer

_NUM_ALTERNATIONS = 3
_FOOTPRINT_RIDGE = 0.1
_CHUNK = 4096
_NUM_CLOCKS = 41
_LEAST_RATIO = 0.1


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Observations:
    """Networks that were measured, of one set of layers.

    Args:
        layers: The layers, in the order of execution.
        outs: Their output channels [N, num_layers].
        ins: Their input channels [N, num_layers].
        layer_ms: What each took [N, num_layers].
        num_operators: How many operators of the runtime each was [N, num_layers].
        latency_ms: What the pass took [N].
    """

    layers: tuple[WidthLayer, ...]
    outs: Floats
    ins: Floats
    layer_ms: Floats
    num_operators: Floats
    latency_ms: Floats

    def __len__(self) -> int:
        return len(self.latency_ms)

    def at(self, rows: Sequence[int]) -> "Observations":
        """Some of the networks."""
        index = np.asarray(rows, dtype=np.int64)
        return Observations(
            layers=self.layers,
            outs=self.outs[index],
            ins=self.ins[index],
            layer_ms=self.layer_ms[index],
            num_operators=self.num_operators[index],
            latency_ms=self.latency_ms[index],
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LatencyFit:
    """Coefficients of the model.

    Args:
        by_signature: Coefficients of the layer features by signature.
        footprint: Factor on all layers: a constant, and one coefficient per memory size.
        per_pass: Constant in ms, and factor on the sum of the layers.
    """

    by_signature: Mapping[str, Floats]
    footprint: Floats
    per_pass: tuple[float, float]

    @classmethod
    def of(cls, observed: Sequence[Observations]) -> "LatencyFit":
        """Fit the model to all networks in ``observed``."""
        observed = _without_clocks(observed)
        footprints = [footprint_features(each.layers, each.outs, each.ins) for each in observed]
        factors = [np.ones(len(each)) for each in observed]
        columns = _columns_by_signature(observed)
        features = {
            signature: np.concatenate([_features(observed[part], place) for part, place in places])
            for signature, places in columns.items()
        }
        by_signature: dict[str, Floats] = {}
        for _ in range(_NUM_ALTERNATIONS):
            for signature, places in columns.items():
                taken = [
                    observed[part].layer_ms[:, place] / factors[part] for part, place in places
                ]
                values = np.concatenate(taken)
                floor = max(float(values.max()) * 1e-3, 1e-6)  # a counter may tell nothing
                by_signature[signature] = fit_nonnegative(
                    features[signature], np.maximum(values, floor)
                )
            sums = [_sum_of_layers(each, by_signature) for each in observed]
            excess = [
                each.layer_ms.sum(axis=1) / total
                for each, total in zip(observed, sums, strict=True)
            ]
            footprint = fit_nonnegative(
                np.concatenate(footprints), np.concatenate(excess), ridge=_FOOTPRINT_RIDGE
            )
            factors = [rows @ footprint for rows in footprints]
        totals = np.concatenate(
            [total * factor for total, factor in zip(sums, factors, strict=True)]
        )
        latencies = np.concatenate([each.latency_ms for each in observed])
        constant, factor = fit_nonnegative(
            np.stack([np.ones_like(totals), totals], axis=1), latencies, ridge=0
        )
        return cls(
            by_signature=by_signature,
            footprint=footprint,
            per_pass=(float(constant), float(factor)),
        )

    def predict_ms(self, layers: Sequence[WidthLayer], outs: Floats, ins: Floats) -> Floats:
        """Latency [N] of networks of ``outs`` and ``ins`` channels [N, num_layers]."""
        chunks = [
            self._predict(layers, outs[start : start + _CHUNK], ins[start : start + _CHUNK])
            for start in range(0, len(outs), _CHUNK)
        ]
        return np.concatenate(chunks) if chunks else np.zeros(0)

    def _predict(self, layers: Sequence[WidthLayer], outs: Floats, ins: Floats) -> Floats:
        total = _sum_of_coefficients(layers, outs, ins, self.by_signature)
        factor = footprint_factors(self.footprint, layers, outs, ins)
        constant, multiple = self.per_pass
        latency: Floats = constant + multiple * total * factor
        return latency


def _without_clocks(observed: Sequence[Observations]) -> list[Observations]:
    """Layer times without what reading the clock around each operator adds to them."""
    totals = np.concatenate([each.layer_ms.sum(axis=1) for each in observed])
    counts = np.concatenate([each.num_operators.sum(axis=1) for each in observed])
    latencies = np.concatenate([each.latency_ms for each in observed])

    def error(clock_ms: float) -> float:
        rows = np.stack([np.ones_like(totals), totals - clock_ms * counts], axis=1)
        fit = rows @ fit_nonnegative(np.maximum(rows, 0), latencies, ridge=0)
        return float(np.median(np.abs(np.log(np.maximum(fit, 1e-9) / latencies))))

    largest = 0.9 * float((totals / counts).min())
    clock_ms = min(np.linspace(0, largest, _NUM_CLOCKS), key=error)
    return [
        replace(
            each,
            layer_ms=np.maximum(
                each.layer_ms - clock_ms * each.num_operators, _LEAST_RATIO * each.layer_ms
            ),
        )
        for each in observed
    ]


def _features(observed: Observations, place: int) -> Floats:
    is_new = novelty(observed.layers, observed.outs, observed.ins)
    return layer_features(
        observed.outs[:, place],
        observed.ins[:, place],
        is_new[:, place],
        is_depthwise=observed.layers[place].is_depthwise,
    )


def _columns_by_signature(observed: Sequence[Observations]) -> dict[str, list[tuple[int, int]]]:
    found: dict[str, list[tuple[int, int]]] = {}
    for part, each in enumerate(observed):
        for place, layer in enumerate(each.layers):
            found.setdefault(layer.signature, []).append((part, place))
    return found


def _sum_of_layers(observed: Observations, by_signature: Mapping[str, Floats]) -> Floats:
    return _sum_of_coefficients(observed.layers, observed.outs, observed.ins, by_signature)


def _sum_of_coefficients(
    layers: Sequence[WidthLayer], outs: Floats, ins: Floats, by_signature: Mapping[str, Floats]
) -> Floats:
    is_new = novelty(layers, outs, ins)
    total = np.zeros(len(outs))
    for place, layer in enumerate(layers):
        total += layer_times(
            by_signature[layer.signature],
            outs[:, place],
            ins[:, place],
            is_new[:, place],
            is_depthwise=layer.is_depthwise,
        )
    return total
