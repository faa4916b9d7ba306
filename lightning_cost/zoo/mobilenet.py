"""MobileNetV2 for small images: inverted residuals, with fewer strides than the original."""

from collections import OrderedDict

from torch import Tensor, nn

from lightning_cost.zoo.layers import check_sizes, conv_bn, initialise

# expansion, channels as a multiple of the width, blocks, stride of the first block
_STAGES = ((1, 1.0, 1, 1), (6, 1.5, 2, 1), (6, 2.0, 2, 2), (6, 4.0, 2, 2), (6, 6.0, 1, 1))
_HEAD_MULTIPLE = 20


class MobileNetV2(nn.Module):
    """Inverted residuals for images of 8 pixels a side or more: two strides instead of five.

    Args:
        width: Channels of the stem; 16 has the channel counts of the original's first stages.
        in_channels: Channels of the input images.
        num_classes: Logits that one image gets.

    Raises:
        ValueError: If a size is less than 1, or the width is odd.

    Reference:
        Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018, table 2.
    """

    def __init__(self, *, width: int = 16, in_channels: int = 3, num_classes: int = 10) -> None:
        check_sizes(width=width, in_channels=in_channels, num_classes=num_classes)
        if width % 2:
            raise ValueError(
                f"width must be even, got {width}; stages have 1.5 times as many channels"
            )
        super().__init__()
        self.stem = _activated(*conv_bn(in_channels, width, 3))
        blocks: list[nn.Module] = []
        channels = width
        for expansion, multiple, num_blocks, first_stride in _STAGES:
            out_channels = int(multiple * width)
            for index in range(num_blocks):
                stride = first_stride if index == 0 else 1
                blocks.append(InvertedResidual(channels, out_channels, expansion, stride=stride))
                channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.head = _activated(*conv_bn(channels, _HEAD_MULTIPLE * width, 1))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(_HEAD_MULTIPLE * width, num_classes)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, num_classes] of images [N, in_channels, H, W]."""
        features = self.head(self.blocks(self.stem(images)))
        logits: Tensor = self.classifier(self.flatten(self.pool(features)))
        return logits


class InvertedResidual(nn.Module):
    """Expand by a 1x1 convolution, filter each channel, project; no activation follows.

    The input is added where it has the shape of the output.
    """

    def __init__(self, in_channels: int, out_channels: int, expansion: int, *, stride: int) -> None:
        super().__init__()
        hidden = expansion * in_channels
        layers: list[tuple[str, nn.Module]] = []
        if expansion > 1:
            layers.append(("expand", _activated(*conv_bn(in_channels, hidden, 1))))
        filtering = conv_bn(hidden, hidden, 3, stride=stride, groups=hidden)
        layers.append(("filter", _activated(*filtering)))
        layers.append(("project", nn.Sequential(OrderedDict(conv_bn(hidden, out_channels, 1)))))
        self.body = nn.Sequential(OrderedDict(layers))
        self.is_residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Features [N, out_channels, H / stride, W / stride] of ``x`` [N, in_channels, H, W]."""
        y: Tensor = self.body(x)
        return x + y if self.is_residual else y


def mobilenet_v2_small(
    *, width: int = 16, in_channels: int = 3, num_classes: int = 10
) -> MobileNetV2:
    """MobileNetV2 for small images.

    >>> import torch
    >>> mobilenet_v2_small(width=8, in_channels=1)(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """
    return MobileNetV2(width=width, in_channels=in_channels, num_classes=num_classes)


def _activated(*layers: tuple[str, nn.Module]) -> nn.Sequential:
    return nn.Sequential(OrderedDict([*layers, ("relu", nn.ReLU6())]))
