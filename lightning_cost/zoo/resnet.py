"""ResNets for small images: a 3x3 stem, three stages of basic blocks, 6n + 2 layers."""

from collections import OrderedDict

from torch import Tensor, nn

from lightning_cost.zoo.layers import check_sizes, conv_bn, initialise


class ResNet(nn.Module):
    """A residual network of 6n + 2 layers for images of 8 pixels a side or more.

    Every activation is a module of its own, so that each place in the network has a name.

    Args:
        blocks_per_stage: n; each of the three stages has n blocks of two 3x3 convolutions.
        width: Channels of the first stage; the second has twice, the third four times as many.
        in_channels: Channels of the input images.
        num_classes: Logits that one image gets.

    Raises:
        ValueError: If a size is less than 1.

    Reference:
        He et al., "Deep Residual Learning for Image Recognition", 2016, section 4.2.
    """

    def __init__(
        self, blocks_per_stage: int, *, width: int = 16, in_channels: int = 3, num_classes: int = 10
    ) -> None:
        check_sizes(
            blocks_per_stage=blocks_per_stage,
            width=width,
            in_channels=in_channels,
            num_classes=num_classes,
        )
        super().__init__()
        self.stem = nn.Sequential(
            OrderedDict([*conv_bn(in_channels, width, 3), ("relu", nn.ReLU())])
        )
        self.stages = nn.Sequential(
            _stage(width, width, blocks_per_stage, stride=1),
            _stage(width, 2 * width, blocks_per_stage, stride=2),
            _stage(2 * width, 4 * width, blocks_per_stage, stride=2),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(4 * width, num_classes)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, num_classes] of images [N, in_channels, H, W]."""
        features = self.stages(self.stem(images))
        logits: Tensor = self.classifier(self.flatten(self.pool(features)))
        return logits


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where shapes differ."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            OrderedDict(
                [
                    *conv_bn(in_channels, out_channels, 3, stride=stride, suffix="1"),
                    ("relu1", nn.ReLU()),
                    *conv_bn(out_channels, out_channels, 3, suffix="2"),
                ]
            )
        )
        keeps_shape = stride == 1 and in_channels == out_channels
        self.shortcut = nn.Sequential(
            OrderedDict([] if keeps_shape else conv_bn(in_channels, out_channels, 1, stride=stride))
        )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Features [N, out_channels, H / stride, W / stride] of ``x`` [N, in_channels, H, W]."""
        y: Tensor = self.relu(self.body(x) + self.shortcut(x))
        return y


def resnet8(*, width: int = 16, in_channels: int = 3, num_classes: int = 10) -> ResNet:
    """A ResNet of 8 layers.

    >>> import torch
    >>> resnet8(width=8, in_channels=1)(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """
    return ResNet(1, width=width, in_channels=in_channels, num_classes=num_classes)


def resnet20(*, width: int = 16, in_channels: int = 3, num_classes: int = 10) -> ResNet:
    """A ResNet of 20 layers."""
    return ResNet(3, width=width, in_channels=in_channels, num_classes=num_classes)


def resnet56(*, width: int = 16, in_channels: int = 3, num_classes: int = 10) -> ResNet:
    """A ResNet of 56 layers."""
    return ResNet(9, width=width, in_channels=in_channels, num_classes=num_classes)


def _stage(in_channels: int, out_channels: int, num_blocks: int, *, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, out_channels, stride=stride)
    others = [BasicBlock(out_channels, out_channels, stride=1) for _ in range(num_blocks - 1)]
    return nn.Sequential(first, *others)
