"""What became of each layer: its widths and its bits, for the report."""

from torch import nn
from torch.nn.modules.conv import _ConvNd

from lightning_cost.quantization.weights import quantized_weights


def layer_widths(dense: nn.Module, final: nn.Module) -> dict[str, tuple[int, int]]:
    """Output channels (before, after) of every convolution and linear layer, by name.

    >>> layer_widths(nn.Sequential(nn.Linear(2, 8)), nn.Sequential(nn.Linear(2, 5)))
    {'0': (8, 5)}
    """
    after = dict(final.named_modules())
    return {
        name: (_width(module), _width(after[name]))
        for name, module in dense.named_modules()
        if isinstance(module, (_ConvNd, nn.Linear)) and name in after
    }


def layer_bits(final: nn.Module) -> dict[str, float]:
    """Bits of each quantised layer's weights, by name; empty for a network in floating point.

    Args:
        final: As it was trained, not converted.
    """
    return {name: quantizer.rounding.weight_bits for name, quantizer, _ in quantized_weights(final)}


def _width(module: nn.Module) -> int:
    width = module.out_channels if isinstance(module, _ConvNd) else module.out_features
    return int(width)  # type: ignore[arg-type]
