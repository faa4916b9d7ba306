"""What a layer with weights multiplies, at some of its output positions."""

from collections.abc import Sequence

import torch
from torch import LongTensor, Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd


def is_product(layer: nn.Module) -> bool:
    """Whether each output of ``layer`` is a weighted sum over all inputs in reach."""
    if isinstance(layer, _ConvNd):
        is_plain = layer.groups == 1 and layer.padding_mode == "zeros"
        return is_plain and not isinstance(layer, _ConvTransposeNd)
    return isinstance(layer, nn.Linear)


def sampled_positions(layer: nn.Module, output: Tensor, count: int, seed: int) -> LongTensor:
    """Up to ``count`` output positions of ``layer``, drawn without replacement.

    Returns:
        Sample and place of each, [count, 1 + spatial dimensions]; [count, 1] for a linear layer,
        whose leading dimensions count as one.
    """
    sizes = [len(output), *output.shape[2:]]
    if isinstance(layer, nn.Linear):
        sizes = [output.shape[:-1].numel()]
    total = torch.Size(sizes).numel()
    generator = torch.Generator().manual_seed(seed)
    flat = torch.randperm(total, generator=generator)[:count].to(output.device)
    return torch.stack(torch.unravel_index(flat, sizes), dim=1)  # type: ignore[return-value]


def outputs_at(layer: nn.Module, output: Tensor, positions: LongTensor) -> Tensor:
    """Outputs [count, out_channels] of ``layer`` at ``positions``."""
    if isinstance(layer, nn.Linear):
        return output.reshape(-1, output.shape[-1])[positions[:, 0]]
    return output.movedim(1, -1)[tuple(positions.unbind(1))]


def patches_at(layer: nn.Module, inputs: Tensor, positions: LongTensor) -> Tensor:
    """What ``layer`` multiplies its weight with at ``positions``.

    Returns:
        [count, fan_in], in the order of ``layer.weight.flatten(1)``.
    """
    if isinstance(layer, nn.Linear):
        return inputs.reshape(-1, inputs.shape[-1])[positions[:, 0]]
    assert isinstance(layer, _ConvNd)
    padded = nn.functional.pad(inputs, _padding(layer)).movedim(1, -1)
    starts = positions[:, 1:] * torch.tensor(layer.stride, device=positions.device)
    offsets = torch.cartesian_prod(*map(torch.arange, layer.kernel_size))
    offsets = offsets.reshape(-1, len(layer.kernel_size)) * torch.tensor(layer.dilation)
    parts = [
        padded[(positions[:, 0], *(starts + offset).unbind(1))]
        for offset in offsets.to(positions.device)
    ]
    return torch.stack(parts, dim=2).flatten(1)


def _padding(layer: _ConvNd) -> Sequence[int]:
    """Padding as ``torch.nn.functional.pad`` takes it: last dimension first."""
    padding: list[int] = layer._reversed_padding_repeated_twice
    return padding
