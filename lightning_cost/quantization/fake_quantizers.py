"""Activations rounded in floating point, so that a network can train for integers."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Self, override

from lightning_cost.quantization.observers import affine_grid, range_of, require_observer

NUM_LEVELS = 256
_AVERAGING = 0.01


class InFloat32(nn.Module):
    """Whose own parameters and buffers stay float32 when the network is converted.

    Ranges and scales are sums of many small moves, which bfloat16 rounds away; and a fit that goes
    on under ``bf16-true`` is converted after they are there, the one that began was before.
    """

    @override
    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        held = [*self._parameters.items(), *self._buffers.items()]
        before = {name: each.data for name, each in held if each is not None}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, values in before.items():
            now = getattr(self, name)
            if values.dtype == torch.float32 and now.dtype != torch.float32:
                now.data = values.to(now.device)
        return self


class ActivationFakeQuantizer(InFloat32):
    """Puts activations on an affine grid of 256 levels in the range that it has observed.

    It observes in training mode while ``observer_enabled``. Before the first observation values
    pass unchanged. Inside the grid the gradient passes, outside it is zero. All its state is in
    buffers, and in a parameter where the range is learned, so that a checkpoint carries it.

    Args:
        observer: How the range is found, see ``OBSERVERS``. A learned one is observed while
            calibrating alone; then a factor on it is trained while ``observer_enabled``.

    Raises:
        ValueError: If there is no such observer.

    Reference:
        For the gradient of the factor: Esser et al., "Learned Step Size Quantization", ICLR 2020.
    """

    min_value: Tensor
    max_value: Tensor
    num_observed: Tensor
    observer_enabled: Tensor

    def __init__(self, observer: str = "moving_average") -> None:
        super().__init__()
        self.observer = require_observer(observer)
        self.register_buffer("min_value", torch.tensor(0.0))
        self.register_buffer("max_value", torch.tensor(0.0))
        self.register_buffer("num_observed", torch.tensor(0))
        self.register_buffer("observer_enabled", torch.tensor(1, dtype=torch.uint8))
        self.factor = nn.Parameter(torch.tensor(1.0)) if observer == "learned" else None
        self.is_calibrating = False

    @override
    def forward(self, x: Tensor) -> Tensor:
        """``x`` rounded to the grid, or ``x`` itself while it is being calibrated."""
        follows = self.training and self.factor is None and bool(self.observer_enabled)
        if self.is_calibrating or follows:
            self.observe(x)
        if self.is_calibrating or not self.num_observed:
            return x
        scale, zero_point = self.grid()
        if self.factor is None:
            rounded: Tensor = _Rounded.apply(x.float(), scale, zero_point)  # type: ignore[no-untyped-call]
        else:
            trains = bool(self.observer_enabled)
            rounded = _LearnedRange.apply(x.float(), self.factor, scale, zero_point, trains)  # type: ignore[no-untyped-call]
        return rounded.to(x.dtype)

    @torch.no_grad()
    def observe(self, x: Tensor) -> None:
        """Widen or narrow the range, in place, towards that of ``x``."""
        if x.numel() == 0:
            return
        low, high = range_of(x, self.observer, num_levels=NUM_LEVELS)
        self.num_observed += 1
        if self.observer == "min_max" and self.num_observed > 1:
            # minimum and maximum as torch takes them: of NaN and anything, NaN
            self.min_value.copy_(torch.minimum(self.min_value, low))
            self.max_value.copy_(torch.maximum(self.max_value, high))
            return
        share = (1.0 / self.num_observed).clamp_min(_AVERAGING)
        for average, extreme in ((self.min_value, low), (self.max_value, high)):
            moved = average + share * (extreme - average)
            # an infinite one stays: infinity less itself would be told as NaN
            average.copy_(torch.where(average.isfinite(), moved, average))

    def grid(self) -> tuple[Tensor, Tensor]:
        """Scale (float32) and zero point (int32); 0.0 is always on the grid."""
        scale, zero_point = affine_grid(self.min_value, self.max_value, num_levels=NUM_LEVELS)
        if self.factor is not None:
            tiny = torch.finfo(torch.float32).eps
            scale = (scale * self.factor.detach().abs()).clamp_min(tiny)
        return scale, zero_point

    @override
    def extra_repr(self) -> str:
        return self.observer

    def reset(self) -> None:
        """Forget every observation."""
        for buffer in (self.min_value, self.max_value, self.num_observed):
            buffer.zero_()


def activation_fake_quantizers(network: nn.Module) -> dict[str, ActivationFakeQuantizer]:
    """All of them in ``network``, by name."""
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, ActivationFakeQuantizer)
    }


def freeze_observers(network: nn.Module) -> None:
    """Keep the ranges of all activations as they are from now on."""
    for quantizer in activation_fake_quantizers(network).values():
        quantizer.observer_enabled.zero_()


def _rounded(x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """To the last bit what ``fake_quantize_per_tensor_affine`` gives, and on a CPU faster."""
    low = -zero_point.item()
    steps = torch.mul(x, scale.reciprocal().item()).round_().clamp_(low, low + NUM_LEVELS - 1)
    return steps.mul_(scale.item())


class _Rounded(torch.autograd.Function):
    """Rounds forward; the gradient passes where the value is not clipped."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
        step, low = scale.item(), -zero_point.item()
        # half a step outside is still rounded to the first and the last level
        ctx.bounds = (low - 0.5) * step, (low + NUM_LEVELS - 0.5) * step
        ctx.save_for_backward(x)
        return _rounded(x, scale, zero_point)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(gradient, x, *ctx.bounds), None, None


class _LearnedRange(torch.autograd.Function):
    """Rounds forward; backward as it would for the values inside, and LSQ's for the factor.

    A factor that does not train has no gradient, but stays in the graph: DistributedDataParallel
    waits for every parameter.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, factor: Tensor, scale: Tensor, zero_point: Tensor, trains: bool
    ) -> Tensor:
        ctx.save_for_backward(x, factor, scale, zero_point)
        ctx.trains = trains
        return _rounded(x, scale, zero_point)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
        x, factor, scale, zero_point = ctx.saved_tensors
        steps = x / scale
        low, high = -zero_point, NUM_LEVELS - 1 - zero_point
        rounded = steps.round()
        is_inside = (rounded >= low) & (rounded <= high)
        if not ctx.trains:
            return gradient * is_inside, None, None, None, None
        slope = rounded.clamp(low, high) - torch.where(is_inside, steps, 0)
        to_scale = (gradient * slope).sum() / (x.numel() * (NUM_LEVELS - 1)) ** 0.5
        return gradient * is_inside, to_scale * scale / factor, None, None, None
