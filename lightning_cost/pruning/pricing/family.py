"""One architecture at any widths, deployed: what a latency table is measured on."""

import tempfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from lightning_cost.cost.duplicate import duplicated
from lightning_cost.cost.forward import Example, call_arguments, with_batch_size
from lightning_cost.network.deploy import deployed_copy
from lightning_cost.pruning.pricing.axis_sizes import AxisSizes
from lightning_cost.pruning.pricing.pricer import Preview
from lightning_cost.pruning.structure.grouping import Grouping
from lightning_cost.pruning.structure.plan import Plan
from lightning_cost.pruning.structure.surgery import operated, removal
from lightning_cost.runtime.onnx_file import feed, input_names, write_onnx
from lightning_cost.runtime.onnx_layers import GraphLayers
from lightning_cost.runtime.onnx_template import Floats, OnnxTemplate

_NUM_TOLD = 3
_MOST_TOLD = 8
_NUM_TRIALS = 20
_NUM_PROBES = 100
_NOISE = 0.1


class PrunedFamily:
    """The networks that pruning can make of one, by the widths of its channel groups.

    Args:
        network: The dense network; left as it is.
        example: What one forward pass takes, with the batch that is to be timed.
        grouping: Its channel groups.
        name: What the architecture is called in tables.
        preview: Brings a copy of a network to the structure that will be deployed, quantised say.

    Raises:
        ValueError: If the network does not export, or its graph depends on the widths by more than
            sizes.
    """

    def __init__(
        self,
        network: nn.Module,
        example: Example,
        grouping: Grouping,
        *,
        name: str,
        preview: Preview | None = None,
    ) -> None:
        self.name = name
        self._network = _varied(network)
        self.example = example
        self._grouping = grouping
        self._preview = preview
        self._axes = AxisSizes.from_grouping(grouping)
        self.totals = self._axes.totals
        args, kwargs = call_arguments(example)
        self.inputs: Mapping[str, Any] = feed(input_names(network, args, kwargs), example)

    @cached_property
    def template(self) -> OnnxTemplate:
        """The ONNX graph at any widths; takes a few exports."""
        told = self._told_widths()
        return OnnxTemplate([self._exported(widths) for widths in told], self.sizes_at(told))

    @cached_property
    def graph(self) -> GraphLayers:
        """The layers in it."""
        shapes = {name: array.shape for name, array in self.inputs.items()}
        return GraphLayers(self.template, shapes)

    def sizes_at(self, widths: npt.NDArray[np.int64]) -> Floats:
        """Axis sizes of the layers [N, 2 num_modules]: outputs, then inputs."""
        return np.concatenate(self._axes.at(widths), axis=1)

    def channels_at(self, widths: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
        """Output and input channels [N, num_layers] of the layers in the deployed graph."""
        return self.graph.channels_at(self.sizes_at(widths))

    def built(self, widths: npt.NDArray[np.int64]) -> nn.Module:
        """The network of ``widths`` [num_groups], deployed."""
        kept = {
            group.name: tuple(range(width))
            for group, width in zip(self._grouping.groups, widths.tolist(), strict=True)
        }
        plan = Plan(kept=kept, num_channels=self._grouping.num_channels)
        network = operated(self._network, removal(self._grouping, plan))
        if self._preview is not None:
            network = self._preview(duplicated(network))
        return deployed_copy(network, self.example)

    def exported(self, widths: npt.NDArray[np.int64]) -> bytes:
        """The file of ``widths`` [num_groups], built and exported anew."""
        content: bytes = self._exported(widths).SerializeToString()
        return content

    def _exported(self, widths: npt.NDArray[np.int64]) -> Any:
        import onnx

        with tempfile.TemporaryDirectory() as folder:
            example = with_batch_size(self.example, 2)
            return onnx.load(write_onnx(self.built(widths), example, Path(folder) / "model.onnx"))

    def _told_widths(self) -> npt.NDArray[np.int64]:
        """Dense, and a few random widths by which the sizes of layers are told apart."""
        generator = np.random.default_rng(0)
        lowest = np.maximum(1, self.totals // 2)

        def drawn(num_rows: int) -> npt.NDArray[np.int64]:
            rows = [generator.integers(lowest, self.totals, endpoint=True) for _ in range(num_rows)]
            return np.stack([self.totals, *rows])

        trials = [drawn(num) for num in range(_NUM_TOLD, _MOST_TOLD) for _ in range(_NUM_TRIALS)]
        most = self._num_told_apart(drawn(_NUM_PROBES))
        for widths in trials:
            if self._num_told_apart(widths) == most:
                return widths
        return trials[-1]

    def _num_told_apart(self, widths: npt.NDArray[np.int64]) -> int:
        """How many of the layers' sizes do not grow alike over ``widths`` [N, num_groups]."""
        sizes = self.sizes_at(widths)
        sizes = sizes[:, sizes[0] > 0]
        return int(np.unique(np.round(sizes / sizes[0], 9), axis=1).shape[1])


def _varied(network: nn.Module) -> nn.Module:
    """A copy whose vectors are not constant: the exporter drops biases that are zero."""
    varied = duplicated(network)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in (*varied.parameters(), *varied.buffers()):
            is_vector = tensor.dim() == 1 and tensor.is_floating_point() and len(tensor) > 1
            if is_vector and bool((tensor == tensor[0]).all()):
                noise = torch.rand(tensor.shape, generator=generator) * _NOISE
                tensor.add_(noise.to(tensor))
    return varied
