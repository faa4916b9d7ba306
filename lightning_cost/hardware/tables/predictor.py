"""Latency of networks that were not built, from a latency table of the device."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import spearmanr

from lightning_cost.hardware.tables.latency_fit import Observations
from lightning_cost.hardware.tables.latency_table import LatencyTable
from lightning_cost.hardware.tables.residual import LatencyModel
from lightning_cost.hardware.tables.width_features import Floats
from lightning_cost.runtime.width_layer import WidthLayer

_NUM_FOLDS = 5
_FEWEST_NETWORKS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictionError:
    """How far predictions lie off, on measured networks that they were not made from.

    Args:
        median_ratio: Half of them are within this share of what was measured.
        p90_ratio: Nine in ten are.
        rank_correlation: Spearman's, between predicted and measured.
        num_networks: How many were tried.
    """

    median_ratio: float
    p90_ratio: float
    rank_correlation: float
    num_networks: int

    @classmethod
    def between(cls, predicted: Floats, measured: Floats) -> "PredictionError":
        """The error of ``predicted`` [N] where ``measured`` [N] is true.

        >>> error = PredictionError.between(np.array([1.0, 2.2, 3.0]), np.array([1.0, 2.0, 3.0]))
        >>> error.median_ratio, error.rank_correlation
        (0.0, 1.0)
        """
        ratios = np.abs(predicted / measured - 1)
        return cls(
            median_ratio=float(np.median(ratios)),
            p90_ratio=float(np.quantile(ratios, 0.9)),
            rank_correlation=float(spearmanr(predicted, measured).statistic),
            num_networks=len(measured),
        )

    def __str__(self) -> str:
        return (
            f"off by {self.median_ratio:.1%} in the median and {self.p90_ratio:.1%} in nine of ten "
            f"of {self.num_networks} networks held out, "
            f"rank correlation {self.rank_correlation:.3f}"
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LatencyPrediction:
    """Predicted latencies with their error.

    Args:
        latency_ms: [N].
        error: On networks held out from the fit; ``None`` if that was not worked out.
    """

    latency_ms: Floats
    error: PredictionError | None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LatencyPredictor:
    """Predicts the latency of width assignments on the device of a latency table.

    Args:
        layers: The layers of the network, in the order of execution.
        model: Fitted to the table.
        error: Of predictions for held-out networks of the table, if it was worked out.
        bias: What predictions are multiplied by, from whole networks measured since.
    """

    layers: tuple[WidthLayer, ...]
    model: LatencyModel
    error: PredictionError | None
    bias: float = 1.0

    @classmethod
    def from_table(
        cls, table: LatencyTable, layers: Sequence[WidthLayer], *, is_judged: bool = True
    ) -> "LatencyPredictor":
        """A predictor for a network of ``layers``.

        Args:
            table: Of the device.
            layers: Of the network, in the order of execution.
            is_judged: Whether its error on held-out networks is worked out, which takes five more
                fits; for what is measured afterwards in any case it need not be.

        Raises:
            ValueError: If the table lacks one of the layers, or holds too few networks.
        """
        table.require_layers(layers)
        wanted = {layer.signature for layer in layers}
        observed = [  # an architecture that was only begun could not be held out from its own fit
            network.observations()
            for network in table.networks
            if len(network.samples) >= _NUM_FOLDS
            and wanted & {layer.signature for layer in network.layers}
        ]
        num_networks = min(_num_networks(observed, signature) for signature in wanted)
        if num_networks < _FEWEST_NETWORKS:
            raise ValueError(
                f"the latency table must hold {_FEWEST_NETWORKS} networks or more with each of "
                f"these layers, got {num_networks}; go on with lightning-cost profile"
            )
        return cls(
            layers=tuple(layers),
            model=LatencyModel.of(observed, layers),
            error=_held_out_error(observed, layers) if is_judged else None,
        )

    def predict(self, outs: Floats, ins: Floats) -> LatencyPrediction:
        """Latencies of ``outs`` and ``ins`` channels [N, num_layers] of the layers."""
        latency_ms = self.bias * self.model.predict_ms(self.layers, outs, ins)
        return LatencyPrediction(latency_ms=latency_ms, error=self.error)

    def corrected(self, outs: Floats, ins: Floats, measured_ms: Floats) -> "LatencyPredictor":
        """The same predictor, right in the median on whole networks that were measured.

        Args:
            outs: Their output channels [N, num_layers].
            ins: Their input channels [N, num_layers].
            measured_ms: Their latencies [N], N >= 1.

        Raises:
            ValueError: If there are none, or one is not > 0.
        """
        if not (len(measured_ms) and (measured_ms > 0).all() and np.isfinite(measured_ms).all()):
            raise ValueError(
                f"measured_ms must be one or more times > 0, got {measured_ms}; measure a network"
            )
        plain = self.model.predict_ms(self.layers, outs, ins)
        return replace(self, bias=float(np.exp(np.median(np.log(measured_ms / plain)))))


def _num_networks(observed: Sequence[Observations], signature: str) -> int:
    return sum(
        len(each) for each in observed if any(layer.signature == signature for layer in each.layers)
    )


def _held_out_error(
    observed: Sequence[Observations], layers: Sequence[WidthLayer]
) -> PredictionError:
    """Cross-validation over the networks of these layers, or of all where there are none such."""
    predicted, measured = [], []
    for fold in range(_NUM_FOLDS):
        rows = [np.arange(len(each)) % _NUM_FOLDS == fold for each in observed]
        model = LatencyModel.of(
            [
                each.at(np.flatnonzero(~out).tolist())
                for each, out in zip(observed, rows, strict=True)
            ],
            layers,
        )
        has_own = any(each.layers == tuple(layers) for each in observed)
        for each, out in zip(observed, rows, strict=True):
            if has_own and each.layers != tuple(layers):
                continue
            left = each.at(np.flatnonzero(out).tolist())
            predicted.append(model.predict_ms(each.layers, left.outs, left.ins))
            measured.append(left.latency_ms)
    return PredictionError.between(np.concatenate(predicted), np.concatenate(measured))
