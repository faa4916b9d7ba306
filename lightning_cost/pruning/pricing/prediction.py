"""Latency, energy and memory of width assignments, many thousand a second, before one is built."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from torch import nn

from lightning_cost.cost.forward import Example
from lightning_cost.cost.measurement import Method
from lightning_cost.cost.resource import Resource
from lightning_cost.hardware.device import Hardware
from lightning_cost.hardware.energy import EnergyModel
from lightning_cost.hardware.layers import Layer, layers_of
from lightning_cost.hardware.tables.latency_table import LatencyTable
from lightning_cost.hardware.tables.predictor import LatencyPredictor, PredictionError
from lightning_cost.pruning.pricing.axis_sizes import AxisSizes
from lightning_cost.pruning.pricing.family import PrunedFamily
from lightning_cost.pruning.pricing.pricer import Floats, Preview, WidthPricer
from lightning_cost.pruning.structure.grouping import Grouping


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Prediction:
    """One resource of N width assignments.

    Args:
        values: [N], in the resource's unit.
        method: Exact where arithmetic gives it, else estimated.
        model: By what: ``"latency table"``, ``"roofline"``, an energy model's name, ...
        error: How far the model was off on networks held out; ``None`` where nothing was measured.
    """

    values: Floats
    method: Method
    model: str
    error: PredictionError | None = None


class WidthPredictor:
    """Predicts every cost of the networks that pruning can make of one.

    Counted resources are exact. Latency comes from a latency table of the device, or by roofline
    from the description of one; energy from the hardware's analytic model, or as power × latency.
    A local device without a table has no latency here: it is measured, on networks that exist.

    Args:
        network: The dense network; left as it is.
        example: What one forward pass takes, with the batch that latency is wanted for.
        grouping: Its channel groups.
        hardware: The target device.
        table: Its latency table, for a local device.
        preview: Brings a copy of a network to the structure that will be deployed, quantised say.
        is_judged: Whether the error of a table's predictions is worked out, which takes longer.

    Raises:
        ValueError: If the table lacks a layer of the network, holds too few networks, or is of
            another runtime or setting than the hardware names.
    """

    def __init__(
        self,
        network: nn.Module,
        example: Example,
        grouping: Grouping,
        *,
        hardware: Hardware,
        table: LatencyTable | None = None,
        preview: Preview | None = None,
        is_judged: bool = True,
    ) -> None:
        self._hardware = hardware
        self._axes = AxisSizes.from_grouping(grouping)
        self._pricer = WidthPricer.from_network(network, example, grouping, preview)
        family = PrunedFamily(network, example, grouping, name="predicted", preview=preview)
        self._family = family
        self._layers, _ = layers_of(family.built(family.totals), example)
        self._moving = self._moving_layers(example)
        self._latency = None
        if table is not None:
            _require_fit(table, hardware)
            self._latency = LatencyPredictor.from_table(
                table, family.graph.layers, is_judged=is_judged
            )

    def predict(self, widths: npt.NDArray[np.int64]) -> Mapping[Resource, Prediction]:
        """Costs of widths [N, num_groups]; resources that cannot be priced are absent."""
        costs = {
            resource: Prediction(values=values, method=Method.exact, model="count")
            for resource, values in self._pricer.price(widths).items()
        }
        latency = self._predicted_latency(widths)
        if latency is not None:
            costs[Resource.latency_ms] = latency
        energy = self._predicted_energy(widths, latency)
        if energy is not None:
            costs[Resource.energy_mj] = energy
        return costs

    def _predicted_latency(self, widths: npt.NDArray[np.int64]) -> Prediction | None:
        if self._latency is not None:
            found = self._latency.predict(*self._family.channels_at(widths))
            return Prediction(
                values=found.latency_ms,
                method=Method.estimated,
                model="latency table",
                error=found.error,
            )
        if self._hardware.is_local:
            return None
        roofline = self._hardware.roofline()
        values = _total([roofline.layer_ms(layer) for layer in self._at(widths)], len(widths))
        return Prediction(values=values, method=Method.estimated, model="roofline")

    def _predicted_energy(
        self, widths: npt.NDArray[np.int64], latency: Prediction | None
    ) -> Prediction | None:
        hardware = self._hardware
        if hardware.energy_model is not None:
            model = EnergyModel.load(
                hardware.energy_model, is_shift_add=hardware.is_shift_add or None
            )
            values = _total([model.layer_mj(layer) for layer in self._at(widths)], len(widths))
            return Prediction(values=values, method=Method.estimated, model=model.name)
        if hardware.power_w is None or latency is None:
            return None
        return Prediction(
            values=hardware.power_w * latency.values,
            method=Method.estimated,
            model=f"power × latency by {latency.model}",
            error=latency.error,
        )

    def _at(self, widths: npt.NDArray[np.int64]) -> list[Layer]:
        """The layers at widths [N, num_groups], their sizes arrays [N]."""
        outs, ins = self._axes.at(widths)
        place = {name: index for index, name in enumerate(self._axes.modules)}
        dense = self._family.sizes_at(self._family.totals[None])[0]
        sizes = self._family.sizes_at(widths)
        found = []
        for layer in self._layers:
            if layer.name in place:
                index = place[layer.name]
                found.append(
                    layer.with_channels(
                        ins[:, index] if ins[:, index].any() else None,
                        outs[:, index] if outs[:, index].any() else None,
                    )
                )
            elif layer.name in self._moving:
                column = self._moving[layer.name]
                found.append(_scaled(layer, sizes[:, column] / dense[column]))
            else:
                found.append(layer)
        return found

    def _moving_layers(self, example: Example) -> dict[str, int]:
        """Layers without channels of their own, such as pooling, by the size that they follow."""
        widths = self._axes.telling_widths()
        sizes = self._family.sizes_at(widths)
        moved: dict[str, list[float]] = {}
        for row in widths:
            for layer in layers_of(self._family.built(row), example)[0]:
                if layer.name not in self._axes.modules:
                    moved.setdefault(layer.name, []).append(float(np.max(layer.num_bytes)))
        columns = {}
        for name, values in moved.items():
            if len(values) != len(widths) or min(values) == max(values):
                continue
            with np.errstate(divide="ignore", invalid="ignore"):
                factors = np.array(values)[:, None] / sizes
            is_match = np.isfinite(factors).all(axis=0) & np.isclose(factors, factors[0]).all(
                axis=0
            )
            if is_match.any():
                columns[name] = int(np.argmax(is_match))
        return columns


def _scaled(layer: Layer, ratio: Floats) -> Layer:
    """A layer that has nothing but data to move, at ratios [N] of its width."""
    return replace(
        layer,
        macs=layer.macs * ratio,
        input_bytes=layer.input_bytes * ratio,
        output_bytes=layer.output_bytes * ratio,
    )


def _total(parts: list[npt.NDArray[np.float64]], num_rows: int) -> Floats:
    total = np.zeros(num_rows)
    for part in parts:
        total += part
    return total


def _require_fit(table: LatencyTable, hardware: Hardware) -> None:
    wanted = {
        "num_threads": hardware.num_threads,
        "precision": hardware.precision,
        "batch_size": hardware.batch_size,
    }
    if hardware.runtime not in (None, "auto"):
        wanted["runtime"] = hardware.runtime
    different = [
        f"{name} {getattr(table, name)!r} where hardware has {value!r}"
        for name, value in wanted.items()
        if getattr(table, name) != value
    ]
    if different:
        raise ValueError(
            f"table must be of the hardware's runtime and setting, got {', '.join(different)}; "
            "profile that setting into a table of its own"
        )
