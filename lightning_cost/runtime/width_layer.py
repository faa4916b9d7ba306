"""A layer as latency tables know it: everything but its channels."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class WidthLayer:
    """A layer whose numbers of channels may vary.

    Args:
        name: What it is called in the network.
        signature: Everything about it but its channels: operator, kernel, strides, input size,
            precision, and the operators that follow before the next layer. Layers of one
            signature and equal channels do the same work.
        is_depthwise: Whether each channel has a filter of its own.
        bytes_per_weight: Bytes of weights for each pair of channels, for each channel if depthwise.
    """

    name: str
    signature: str
    is_depthwise: bool
    bytes_per_weight: float
