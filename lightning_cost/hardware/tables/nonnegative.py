"""Fits of positive quantities by non-negative sums of features."""

import numpy as np
from scipy.optimize import nnls

from lightning_cost.hardware.tables.width_features import Floats

_NUM_REWEIGHTINGS = 4
_TOLERATED_RATIO = 0.1
_LEAST_SHARE = 0.01


def fit_nonnegative(features: Floats, values: Floats, *, ridge: float = 1e-3) -> Floats:
    """Coefficients [F] >= 0 by which ``features`` [N, F] give ``values`` [N] > 0, in log space.

    Least squares of the logarithm's error, iteratively reweighted; samples further off than a tenth
    count less. Where every feature grows with the widths the fit does, and it is never negative.

    Args:
        features: Values >= 0.
        values: What they should add up to, > 0.
        ridge: How strongly coefficients are held small, by which one is chosen among like features;
            relative to the values' own size.
    """
    scale = features.max(axis=0, initial=0)
    scale[scale == 0] = 1
    scaled = features / scale
    num_samples, num_features = features.shape
    size = np.median(values)
    penalty = ridge * np.sqrt(num_samples / num_features) / size * np.eye(num_features)
    relative = 1 / values
    weights = relative
    for _ in range(_NUM_REWEIGHTINGS):
        found, _ = nnls(
            np.concatenate([scaled * weights[:, None], penalty]),
            np.concatenate([values * weights, np.zeros(num_features)]),
            maxiter=100 * num_features,
        )
        fitted = np.maximum(scaled @ found, _LEAST_SHARE * values)
        # (log f - log v)² = ((f - v) w)² at the present fit
        relative = np.abs(np.log(fitted / values)) / np.maximum(
            np.abs(fitted - values), 1e-12 * values
        )
        errors = np.abs(np.log(fitted / values))
        weights = relative * np.sqrt(np.minimum(1, _TOLERATED_RATIO / np.maximum(errors, 1e-9)))
    coefficients: Floats = found / scale
    return coefficients
