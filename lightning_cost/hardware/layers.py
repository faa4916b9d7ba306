"""The layers of a deployed network as every cost model sees them: shapes, work, bytes, bits."""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lightning_cost.cost.forward import Example, batch_size_of
from lightning_cost.cost.macs import count_macs
from lightning_cost.cost.size import Stored, named_stored, stored_bytes
from lightning_cost.hardware.module_calls import Moved, counting_calls

Number: TypeAlias = float | NDArray[np.float64]
"""One value, or one for each of N width assignments."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """One layer and the calls of it that have the same shapes, for the batch of the example.

    Fields of type ``Number`` are single values for a layer of a network, and arrays [N] for the
    layer at N widths (:meth:`with_channels`).

    Args:
        name: The module's name in the network.
        kind: ``"conv"``, ``"conv_transposed"``, ``"linear"``, or ``"other"``: a layer that
            multiplies in another way, a container's own arithmetic, or one that only moves data.
        macs: Its own multiply-accumulates, without those of its children.
        in_channels: Channels of its input; 0 where it has none that its cost follows.
        out_channels: Channels of its output; 0 where it has none that its cost follows.
        groups: Groups of a convolution.
        kernel: Size of a convolution's kernel; empty for the others.
        stride: Stride of a convolution; empty for the others.
        in_positions: Pixels or sequence positions of its input, per sample and call.
        out_positions: Those of its output.
        num_calls: How often it runs in one forward pass.
        weight_bytes: Its weights as stored, integers packed, biases and scales aside.
        bias_bytes: What it stores for each output channel: biases and scales.
        input_bytes: What it reads of activations, over all calls.
        output_bytes: What it writes, over all calls.
        weight_bits: Bits of one weight as it is stored; the mean where that varies.
        activation_bits: Bits of one element of its input.
        num_shifts: 1 or 2 where each weight is the sum of at most as many signed powers of two, so
            that shifts and additions can replace its multiplications; else 0.
    """

    name: str
    kind: str = "other"
    macs: Number = 0.0
    in_channels: Number = 0
    out_channels: Number = 0
    groups: Number = 1
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    in_positions: int = 1
    out_positions: int = 1
    num_calls: int = 1
    weight_bytes: Number = 0.0
    bias_bytes: Number = 0.0
    input_bytes: Number = 0.0
    output_bytes: Number = 0.0
    weight_bits: float = 32
    activation_bits: int = 32
    num_shifts: int = 0

    @property
    def num_bytes(self) -> Number:
        """Bytes that a CPU or GPU moves: weights, biases, inputs and outputs.

        Integers of fewer than 8 bits are bytes there.
        """
        loaded = self.weight_bytes * (8 / self.weight_bits if self.is_int8 else 1)
        return loaded + self.bias_bytes + self.input_bytes + self.output_bytes

    @property
    def is_int8(self) -> bool:
        """Whether its arithmetic is that of integers of at most 8 bits."""
        return self.weight_bits <= 8

    @property
    def is_shift_add(self) -> bool:
        """Whether shifts and additions can replace its multiplications."""
        return self.num_shifts > 0

    @property
    def is_depthwise(self) -> bool:
        """Whether each output channel reads a single input channel, and goes with it."""
        return bool(np.all(self.groups == self.in_channels)) and bool(np.all(self.groups > 1))

    def with_channels(
        self, in_channels: Number | None = None, out_channels: Number | None = None
    ) -> "Layer":
        """The layer at other widths, one or N at once; the rest of its shapes stays.

        A depthwise convolution needs one of the two, the other follows. A layer without channels
        (0) stays as it is.

        Args:
            in_channels: A number or an array [N]; ``None`` for today's.
            out_channels: The same for the output.

        >>> layer = Layer(name="conv", kind="conv", macs=288, in_channels=4, out_channels=8)
        >>> layer.with_channels(in_channels=np.array([2.0, 4.0]), out_channels=4).macs.tolist()
        [72.0, 144.0]
        """
        is_depthwise = self.is_depthwise
        into = _ratio(in_channels, self.in_channels)
        out = _ratio(out_channels, self.out_channels)
        if is_depthwise and in_channels is None:
            into = out
        elif is_depthwise and out_channels is None:
            out = into
        work = out if is_depthwise else into * out
        return replace(
            self,
            macs=self.macs * work,
            in_channels=self.in_channels * into,
            out_channels=self.out_channels * out,
            groups=self.groups * into if is_depthwise else self.groups,
            weight_bytes=self.weight_bytes * work,
            bias_bytes=self.bias_bytes * out,
            input_bytes=self.input_bytes * into,
            output_bytes=self.output_bytes * out,
        )


def layers_of(network: nn.Module, example: Example) -> tuple[list[Layer], tuple[str, ...]]:
    """The layers of a deployed network, for the batch in ``example``, in the modules' order.

    A layer is a module that multiplies and has no module inside that does, or a leaf outside of
    those. A leaf that neither multiplies nor changes the shape (an activation function, an
    identity) is taken as fused into its producer, as deployment runtimes do. Activations of a layer
    with 8-bit weights move one byte per element. What a container multiplies itself, such as
    attention, is a layer of kind ``"other"`` without traffic. A module that is called with
    different shapes gives one layer for each. ``network`` is left as it was found; works on the
    meta device.

    Returns:
        The layers, and the operators that were not counted.
    """
    modules = dict(network.named_modules())
    with counting_calls(modules) as all_calls:
        report = count_macs(network, example)
    innermost = _innermost(modules, report.by_module)
    calls = {
        name: _unfused(modules[name], counted)
        for name, counted in all_calls.items()
        if name in innermost
    }
    batch_size = batch_size_of(example)
    found: list[Layer] = []
    for name, module in modules.items():
        macs = _own_macs(name, module, report.by_module) * batch_size
        own = list(_layers_of(name, module, macs, calls.get(name, {}), batch_size))
        if not own and macs > 0:
            own = [Layer(name=name, macs=float(macs))]
        found += own
    return found, report.unsupported


def _ratio(channels: Number | None, today: Number) -> Number:
    if channels is None or np.all(today == 0):
        return 1.0
    return np.asarray(channels, dtype=np.float64)[()] / today


@dataclass(frozen=True, slots=True)
class _Shapes:
    """What distinguishes one call of a layer from another, for one sample."""

    first_input: tuple[int, ...]
    first_output: tuple[int, ...]
    input_bytes: int
    output_bytes: int


def _layers_of(
    name: str,
    module: nn.Module,
    macs: int,
    calls: Mapping[_Shapes, int],
    batch_size: int,
) -> Iterator[Layer]:
    """One layer for each different shape that ``module`` is called with."""
    weight_bytes = bias_bytes = 0.0
    if macs > 0:
        weight_bytes = sum(stored.num_bytes for stored in _weights(module))
        bias_bytes = max(0.0, stored_bytes(module) - weight_bytes)
    described = [(_shape_fields(module, shapes, macs), shapes, n) for shapes, n in calls.items()]
    work = [n * _work(fields) for fields, _, n in described]
    for (fields, shapes, num_calls), share in zip(described, work, strict=True):
        yield Layer(
            name=name,
            **fields,
            macs=float(macs if len(work) == 1 else macs * share / sum(work)),
            num_calls=num_calls,
            weight_bytes=weight_bytes,
            bias_bytes=bias_bytes,
            input_bytes=float(batch_size * num_calls * shapes.input_bytes),
            output_bytes=float(batch_size * num_calls * shapes.output_bytes),
            **_bits(module),
        )


def _shape_fields(module: nn.Module, shapes: _Shapes, macs: int) -> dict[str, Any]:
    """Kind, channels, kernel and positions, from the module and the tensors of one sample."""
    into, out = shapes.first_input, shapes.first_output
    if isinstance(module, nn.modules.conv._ConvNd):
        channel = -len(module.kernel_size) - 1
        fields: dict[str, Any] = {
            "kind": "conv_transposed" if module.transposed else "conv",
            "groups": module.groups,
            "kernel": tuple(module.kernel_size),
            "stride": tuple(module.stride),
        }
    elif isinstance(module, nn.Linear):
        channel, fields = -1, {"kind": "linear"}
    elif macs == 0 and len(into) in (2, 4, 5) and len(out) in (2, 4, 5):
        channel, fields = 1, {}
    else:
        return {"in_positions": math.prod(into), "out_positions": math.prod(out)}
    return fields | {
        "in_channels": into[channel],
        "out_channels": out[channel],
        "in_positions": math.prod(into) // into[channel] if into[channel] else 0,
        "out_positions": math.prod(out) // out[channel] if out[channel] else 0,
    }


def _work(fields: Mapping[str, Any]) -> int:
    """What the multiply-accumulates of a layer are proportional to, over its calls."""
    positions = "in_positions" if fields.get("kind") == "conv_transposed" else "out_positions"
    return max(1, int(fields[positions]))


def _bits(module: nn.Module) -> dict[str, Any]:
    weights = _weights(module)
    integers = [weight for weight in weights if _is_int8_weight(weight.tensor)]
    if integers:
        return {
            "weight_bits": max(weight.bits for weight in integers),
            "activation_bits": 8,
            "num_shifts": _shifts_of([weight.tensor for weight in integers]),
        }
    bits = int(max((weight.bits for weight in weights), default=32))
    return {"weight_bits": bits, "activation_bits": bits}


def num_shifts(values: Iterable[int]) -> int:
    """Signed powers of two that each value is the sum of, where that is at most two; else 0.

    >>> num_shifts([0, -64, 2]), num_shifts([3, 96]), num_shifts([11])
    (1, 2, 0)
    """
    powers = {0} | {sign * 2**exponent for exponent in range(8) for sign in (1, -1)}
    found = set(values)
    if found <= powers:
        return 1
    return 2 if found <= {first + second for first in powers for second in powers} else 0


def _shifts_of(weights: Collection[Tensor]) -> int:
    if any(weight.is_meta for weight in weights):
        return 0
    return num_shifts(int(value) for weight in weights for value in torch.unique(weight))


def _innermost(modules: Mapping[str, nn.Module], macs: Mapping[str, int]) -> set[str]:
    """Modules that multiply and hold none that does, and the leaves outside of those."""
    multiplying = [name for name in modules if macs[name] > 0]
    around = {container for name in multiplying for container in _containers(name)}
    innermost = set(multiplying) - around
    leaves = {name for name, module in modules.items() if next(module.children(), None) is None}
    outside = {name for name in leaves if innermost.isdisjoint(_containers(name))}
    return innermost | outside


def _containers(name: str) -> list[str]:
    """The names of the modules around the module ``name``, the network included."""
    if name == "":
        return []
    parts = name.split(".")
    return [".".join(parts[:depth]) for depth in range(len(parts))]


def _own_macs(name: str, module: nn.Module, macs: Mapping[str, int]) -> int:
    """MACs of the module without those of its children."""
    children = (f"{name}.{child}".lstrip(".") for child, _ in module.named_children())
    return macs[name] - sum(macs.get(child, 0) for child in children)


def _unfused(module: nn.Module, calls: Mapping[Moved, int]) -> dict[_Shapes, int]:
    """The calls of a layer that is not fused into another, by the shapes that it runs with."""
    is_int8 = any(_is_int8_weight(weight.tensor) for weight in _weights(module))
    has_weights = is_int8 or next(module.parameters(), None) is not None
    return {
        _Shapes(
            first_input=moved.first_input,
            first_output=moved.first_output,
            input_bytes=moved.num_read if is_int8 else moved.bytes_read,
            output_bytes=moved.num_written if is_int8 else moved.bytes_written,
        ): number
        for moved, number in calls.items()
        if has_weights or not moved.keeps_shape
    }


def _weights(module: nn.Module) -> list[Stored]:
    """What a module stores of more than one dimension."""
    return [stored for stored in named_stored(module) if stored.tensor.dim() > 1]


def _is_int8_weight(tensor: Tensor) -> bool:
    return tensor.dtype in (torch.int8, torch.uint8)
