"""The contract of a family of networks: one architecture at any widths, to be profiled."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lightning_cost.runtime.onnx_layers import GraphLayers
from lightning_cost.runtime.onnx_template import Floats, OnnxTemplate

Widths = npt.NDArray[np.int64]


class WidthFamily(Protocol):
    """Networks that differ in nothing but their numbers of channels.

    Attributes:
        name: What the architecture is called.
        totals: Channels of each group in the dense network [num_groups].
        inputs: Arrays for one forward pass by input name.
    """

    name: str
    totals: Widths
    inputs: Mapping[str, Any]

    @property
    def template(self) -> OnnxTemplate:
        """The ONNX graph at any widths."""

    @property
    def graph(self) -> GraphLayers:
        """The layers in it."""

    def sizes_at(self, widths: Widths) -> Floats:
        """The sizes [N, num_sizes] that the template goes by, of widths [N, num_groups]."""

    def channels_at(self, widths: Widths) -> tuple[Floats, Floats]:
        """Output and input channels [N, num_layers] of the layers."""


def model_of(family: WidthFamily, widths: Widths) -> bytes:
    """The ONNX file of ``widths`` [num_groups]."""
    content: bytes = family.template.at(family.sizes_at(widths[None])[0]).SerializeToString()
    return content


def reference_widths(family: WidthFamily) -> Widths:
    """Half of all channels: what the other networks of a family are timed in turn with."""
    halves: Widths = np.maximum(1, family.totals // 2)
    return halves


def batch_size_of_inputs(family: WidthFamily) -> int:
    """Samples in one forward pass."""
    return int(next(iter(family.inputs.values())).shape[0])
