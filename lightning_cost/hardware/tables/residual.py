"""What the sum over layers leaves unexplained of a whole pass, learned for one architecture."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor

from lightning_cost.hardware.tables.latency_fit import LatencyFit, Observations
from lightning_cost.hardware.tables.width_features import Floats, footprint_features
from lightning_cost.runtime.width_layer import WidthLayer

FEWEST_NETWORKS = 40

_NUM_FOLDS = 4
_NUM_TREES = 100
_FEWEST_IN_LEAF = 3
_MULTIPLES = (4, 8, 16)
_LARGEST_FACTOR = 1.3


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LatencyModel:
    """The sum over layers, and a factor on it where the architecture itself was measured.

    Args:
        fit: The sum over layers.
        layers: The architecture that the factor is for.
        trees: Predict the logarithm of the factor; ``None`` for no factor.
    """

    fit: LatencyFit
    layers: tuple[WidthLayer, ...]
    trees: ExtraTreesRegressor | None

    @classmethod
    def of(cls, observed: Sequence[Observations], layers: Sequence[WidthLayer]) -> "LatencyModel":
        """Fit to all of ``observed``, and the factor to those of exactly ``layers``.

        The factor is learned from networks that the sum was not fitted to; with fewer than 40 of
        them there is none. Networks that lie off by more than 1.3 × teach nothing: something else
        than their widths slowed them down.
        """
        fit = LatencyFit.of(observed)
        own = next((each for each in observed if each.layers == tuple(layers)), None)
        if own is None or len(own) < FEWEST_NETWORKS:
            return cls(fit=fit, layers=tuple(layers), trees=None)
        others = [each for each in observed if each is not own]
        left_out = np.zeros(len(own))
        for fold in range(_NUM_FOLDS):
            is_out = np.arange(len(own)) % _NUM_FOLDS == fold
            rest = own.at(np.flatnonzero(~is_out).tolist())
            left_out[is_out] = LatencyFit.of([*others, rest]).predict_ms(
                own.layers, own.outs[is_out], own.ins[is_out]
            )
        trees = ExtraTreesRegressor(_NUM_TREES, min_samples_leaf=_FEWEST_IN_LEAF, random_state=0)
        features = _features(own.layers, own.outs, own.ins, left_out)
        logs = np.log(own.latency_ms / left_out)
        is_usual = np.abs(logs) <= np.log(_LARGEST_FACTOR)
        if is_usual.sum() < FEWEST_NETWORKS:
            return cls(fit=fit, layers=tuple(layers), trees=None)
        trees.fit(features[is_usual], logs[is_usual])
        return cls(fit=fit, layers=tuple(layers), trees=trees)

    def predict_ms(self, layers: Sequence[WidthLayer], outs: Floats, ins: Floats) -> Floats:
        """Latency [N] of networks of ``outs`` and ``ins`` channels [N, num_layers]."""
        summed = self.fit.predict_ms(layers, outs, ins)
        if self.trees is None or tuple(layers) != self.layers or not len(outs):
            return summed
        logs = self.trees.predict(_features(layers, outs, ins, summed))
        latency: Floats = summed * np.exp(logs)
        return latency


def _features(layers: Sequence[WidthLayer], outs: Floats, ins: Floats, summed: Floats) -> Floats:
    """Widths, how they divide, what is run through, and the sum itself [N, num_features]."""
    divides = [outs % multiple != 0 for multiple in _MULTIPLES]
    found = np.concatenate(
        [np.log(outs), *divides, footprint_features(layers, outs, ins), np.log(summed)[:, None]],
        axis=1,
    )
    return found.astype(np.float32)
