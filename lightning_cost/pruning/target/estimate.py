"""What a device is expected to measure, made better by everything that it has measured."""

from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from lightning_cost.cost.resource import Resource
from lightning_cost.pruning.pricing.prediction import Prediction
from lightning_cost.pruning.target.path import PricesWidths

Floats: TypeAlias = npt.NDArray[np.float64]
Widths: TypeAlias = npt.NDArray[np.int64]
Estimate: TypeAlias = Callable[[Widths], Mapping[Resource, Floats]]
"""Costs [N] by resource of widths [N, num_groups]; a latency table's, or a rough proportion."""


class PredictsWidths(Protocol):
    """Whatever predicts costs of many width assignments at once."""

    def predict(self, widths: Widths) -> Mapping[Resource, Prediction]:
        """Costs of widths [N, num_groups]; resources that cannot be predicted are absent."""


def device_estimate(
    predictor: PredictsWidths | None,
    pricer: PricesWidths,
    dense_widths: Widths,
    *,
    dense: Mapping[Resource, float],
) -> Estimate:
    """The first guess at what a device will measure.

    Args:
        predictor: Of the device; ``None`` if nothing is known of it.
        pricer: Prices widths in MACs.
        dense_widths: Of the dense network, [1, num_groups].
        dense: About what that costs, of the resources that are wanted. What is not predicted is
            taken to be proportional to the latency that is, and that to the MACs.
    """

    def estimate(widths: Widths) -> dict[Resource, Floats]:
        rows = np.concatenate([dense_widths, widths])
        predicted = {} if predictor is None else predictor.predict(rows)
        known = {resource: found.values for resource, found in predicted.items()}
        basis = known.get(Resource.latency_ms)
        if basis is None:
            basis = pricer.price(rows)[Resource.macs]
        shares = basis[1:] / basis[0]
        return {
            resource: known[resource][1:] if resource in known else value * shares
            for resource, value in dense.items()
        }

    return estimate


class CorrectedEstimate:
    """An estimate times a factor that is right for every network that was measured.

    Between two measured networks the logarithm of the factor is interpolated along the logarithm
    of the estimate, beyond them it is that of the nearest. So the bias of a latency table is gone
    after one measurement; and where the estimate is no more than proportional to the MACs, two of
    them make it a power law, and further ones the device's own curve.

    Args:
        estimate: To be corrected.
    """

    def __init__(self, estimate: Estimate) -> None:
        self._estimate = estimate
        self._points: dict[Resource, dict[float, list[float]]] = {}

    def learn(self, widths: Widths, measured: Mapping[Resource, float]) -> None:
        """Take in what the network of ``widths`` [num_groups] costs."""
        estimated = self._estimate(widths[None])
        for resource, value in measured.items():
            guess = float(estimated[resource][0])
            points = self._points.setdefault(resource, {})
            points.setdefault(np.log(guess), []).append(np.log(value / guess))

    def __call__(self, widths: Widths) -> dict[Resource, Floats]:
        """Costs [N] by resource of ``widths`` [N, num_groups]."""
        return {
            resource: values * self._factors(resource, values)
            for resource, values in self._estimate(widths).items()
        }

    def _factors(self, resource: Resource, values: Floats) -> Floats:
        points = self._points.get(resource)
        if not points:
            return np.ones_like(values)
        places = sorted(points)
        logs = [float(np.mean(points[place])) for place in places]
        factors: Floats = np.exp(np.interp(np.log(values), places, logs))
        return factors
