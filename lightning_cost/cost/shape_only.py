"""Forward passes on the meta device in a fraction of the time: shapes by closed form.

PyTorch derives the shapes of many operators on meta by running their decompositions in Python,
which takes a hundred times as long as the shape itself. Where nothing but costs is asked for,
those of the usual networks' operators are known at once.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Rule: TypeAlias = Callable[..., Any]
"""The result of an operator on meta tensors, or ``None`` where the rule does not know."""

aten = torch.ops.aten


class ShapeOnly(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is entered, usual operators on meta tensors give their shapes by closed form.

    Others, and those on other devices, run as they always do. Results are contiguous.

    >>> with ShapeOnly():
    ...     torch.relu(torch.empty(2, 3, device="meta")).shape
    torch.Size([2, 3])
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and the guard takes as long as the operator

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        rule = _RULES.get(func)
        if rule is not None and args and isinstance(args[0], Tensor) and args[0].is_meta:
            result = rule(*args, **kwargs)
            if result is not None:
                return result
        return func(*args, **kwargs)


def _as_it_is(tensor: Tensor, *_: Any, **__: Any) -> Tensor:
    return tensor


def _alike(tensor: Tensor, *_: Any, **__: Any) -> Tensor | None:
    """An element-wise operator of one tensor, in floating point."""
    return _empty(tensor, tensor.shape) if tensor.is_floating_point() else None


def _of_both(one: Tensor, other: Any, **_: Any) -> Tensor | None:
    """An element-wise operator of two tensors of the same shape."""
    if not isinstance(other, Tensor) or one.shape != other.shape or one.dtype != other.dtype:
        return None
    return _alike(one)


def _batch_norm(tensor: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, ...] | None:
    is_training = args[4] if len(args) > 4 else kwargs.get("training")
    if is_training is not False or not tensor.is_floating_point():
        return None
    return _empty(tensor, tensor.shape), _empty(tensor, (0,)), _empty(tensor, (0,))


def _convolution(
    tensor: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
) -> Tensor | None:
    sizes = tensor.shape[2:]
    is_plain = tensor.dim() == weight.dim() and len(stride) == len(sizes) == len(padding)
    if transposed or not is_plain or len(dilation) != len(sizes):
        return None
    if tensor.shape[1] != weight.shape[1] * groups or tensor.dtype != weight.dtype:
        return None  # as it is wrong, the operator itself says what is
    found = [
        (size + 2 * pad - span * (kernel - 1) - 1) // step + 1
        for size, pad, span, kernel, step in zip(
            sizes, padding, dilation, weight.shape[2:], stride, strict=True
        )
    ]
    if min(found) < 1 or min(stride) < 1 or weight.shape[0] % groups:
        return None
    return _empty(tensor, (tensor.shape[0], weight.shape[0], *found))


def _empty(like: Tensor, shape: Any) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, device="meta")


_RULES: Mapping[Any, Rule] = {
    aten.convolution.default: _convolution,
    aten.native_batch_norm.default: _batch_norm,
    **dict.fromkeys(
        (
            aten.relu.default,
            aten.gelu.default,
            aten.silu.default,
            aten.sigmoid.default,
            aten.tanh.default,
            aten.hardtanh.default,
            aten.hardswish.default,
            aten.hardsigmoid.default,
            aten.leaky_relu.default,
            aten.elu.default,
            aten.clamp.default,
        ),
        _alike,
    ),
    **dict.fromkeys((aten.add.Tensor, aten.mul.Tensor), _of_both),
    # what a network is initialised with is no matter
    **dict.fromkeys(
        (
            aten.uniform_.default,
            aten.normal_.default,
            aten.zero_.default,
            aten.fill_.Scalar,
            aten.relu_.default,
            aten.hardtanh_.default,
            aten.hardswish_.default,
            aten.silu_.default,
        ),
        _as_it_is,
    ),
}
