"""What the networks of the zoo are built from."""

from torch import nn


def conv_bn(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    groups: int = 1,
    suffix: str = "",
) -> list[tuple[str, nn.Module]]:
    """A convolution that keeps the image size at stride 1, and its batch norm, with their names."""
    conv = nn.Conv2d(
        in_channels,
        out_channels,
        kernel_size,
        stride=stride,
        padding=kernel_size // 2,
        groups=groups,
        bias=False,
    )
    return [(f"conv{suffix}", conv), (f"bn{suffix}", nn.BatchNorm2d(out_channels))]


def initialise(network: nn.Module) -> None:
    """Draw the convolutions of ``network`` in place so that rectified signals keep their variance.

    Reference:
        He et al., "Delving Deep into Rectifiers", 2015, equation 10.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")


def check_sizes(**sizes: int) -> None:
    """Refuse sizes that no network can have.

    Raises:
        ValueError: If one is less than 1.
    """
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"{name} must be >= 1, got {value}; give a positive whole number")
