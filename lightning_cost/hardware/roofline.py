"""Latency of a network on a device that is only described: arithmetic or memory, layer by layer.

A layer takes max(MACs / peak, bytes / bandwidth); layers run one after another (Williams, Waterman
and Patterson, Roofline, CACM 2009).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_cost.hardware.layers import Layer


@dataclass(frozen=True, kw_only=True, slots=True)
class Roofline:
    """What a device can do at best.

    Args:
        peak_gmacs_fp32: 10⁹ multiply-accumulates per second in float32.
        peak_gmacs_fp16: The same in 16-bit floats; ``None`` where they run no faster.
        peak_gmacs_int8: The same in int8; ``None`` where int8 runs no faster.
        bandwidth_gb_s: 10⁹ bytes per second to and from memory.
    """

    peak_gmacs_fp32: float
    bandwidth_gb_s: float
    peak_gmacs_fp16: float | None = None
    peak_gmacs_int8: float | None = None

    def latency_ms(self, layers: Iterable[Layer]) -> float:
        """Time for all layers, one after another.

        >>> roof = Roofline(peak_gmacs_fp32=1, bandwidth_gb_s=1)
        >>> roof.latency_ms([Layer(name="conv", macs=2e6, input_bytes=1e6)])
        2.0
        """
        return sum(float(self.layer_ms(layer)) for layer in layers)

    def layer_ms(self, layer: Layer) -> NDArray[np.float64]:
        """Time for one layer.

        Args:
            layer: At one width, or at N (:meth:`Layer.with_channels`).

        Returns:
            Milliseconds [N], of shape [] for a single width.
        """
        by_bits = {8: self.peak_gmacs_int8, 16: self.peak_gmacs_fp16}
        bits = 8 if layer.is_int8 else int(layer.weight_bits)
        peak = by_bits.get(bits) or self.peak_gmacs_fp32
        arithmetic_ms = layer.macs / peak / 1e6
        memory_ms = layer.num_bytes / self.bandwidth_gb_s / 1e6
        return np.asarray(np.maximum(arithmetic_ms, memory_ms), dtype=np.float64)
