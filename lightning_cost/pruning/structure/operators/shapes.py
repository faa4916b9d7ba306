"""Operators that view, take apart, join or index tensors."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_cost.pruning.structure.feature_maps import FeatureMaps
from lightning_cost.pruning.structure.labels import compressed, varying
from lightning_cost.pruning.structure.operators.rule import Operation, rule


@rule("permute", "transpose", "t", "unsqueeze", "squeeze", "expand", "movedim", "swapaxes")
@rule("permute_copy", "transpose_copy", "expand_copy")
def _viewed(maps: FeatureMaps, op: Operation) -> None:
    rest = list(op.inputs.values())[1:]
    operator = getattr(torch.ops.aten, op.name)
    arrays = [
        compressed(operator(labels.expand(op.first.shape), *rest)) for labels in maps.of(op.first)
    ]
    maps.set(op.result, arrays)


@rule("transpose_", "t_", "unsqueeze_")
def _viewed_in_place(maps: FeatureMaps, op: Operation) -> None:
    """The tensor's shape is the new one already; labels of size 1 tell nothing by it."""
    operator = getattr(torch.ops.aten, op.name.rstrip("_"))
    rest = list(op.inputs.values())[1:]
    maps.set(op.result, [operator(labels, *rest) for labels in maps.of(op.first)])


@rule("as_strided_")
def _laid_out(maps: FeatureMaps, op: Operation) -> None:
    """Pooling does this to channels-last images: other strides, the same elements."""
    sizes = list(op.inputs["size"])
    if any(
        labels.shape[dim] not in (1, sizes[dim])
        for labels in maps.of(op.first)
        for dim in range(len(sizes))
    ):
        raise NotImplementedError("a view of other elements")
    maps.set(op.result, maps.of(op.first))


@rule("glu")
def _gated(maps: FeatureMaps, op: Operation) -> None:
    """One half of the channels times a function of the other."""
    x = op.first
    dim = op.inputs.get("dim", -1) % x.dim()
    half = x.shape[dim] // 2
    arrays = _taken_apart(maps, op, dim, [0, half])
    entries = [
        (op.result.shape, [_narrowed(labels, dim, start, half) for labels in arrays])
        for start in (0, half)
    ]
    maps.set(op.result, maps.merged(entries, op.name))


@rule("view", "_unsafe_view", "reshape", "_reshape_alias", "flatten", "unflatten", "view_copy")
def _reshaped(maps: FeatureMaps, op: Operation) -> None:
    arrays = maps.reshaped(maps.of(op.first), op.first.shape, op.result.shape)
    maps.set(op.result, arrays)


@rule("pixel_shuffle")
def _pixel_shuffle(maps: FeatureMaps, op: Operation) -> None:
    _regrid(maps, op, op.inputs["upscale_factor"] ** 2)


@rule("native_channel_shuffle", "channel_shuffle")
def _channel_shuffle(maps: FeatureMaps, op: Operation) -> None:
    arrays = []
    for labels in maps.of(op.first):
        if varying(labels) != (1,):
            maps.pin([labels], op.name)
            continue
        grid = labels.reshape(op.inputs["groups"], -1)
        maps.links.see_as_grid(grid, 1, maps.module)
        arrays.append(grid.T.reshape(labels.shape))
    maps.set(op.result, arrays)


def _regrid(maps: FeatureMaps, op: Operation, inner: int) -> None:
    """Channels become groups of ``inner`` pixels."""
    arrays = []
    for labels in maps.of(op.first):
        if varying(labels) != (op.first.dim() - 3,):
            maps.pin([labels], op.name)
            continue
        grid = labels.reshape(-1, inner)
        maps.links.see_as_grid(grid, 0, maps.module)
        maps.links.tie_along(grid, [1])
        shape = [grid.shape[0] if dim == op.first.dim() - 3 else 1 for dim in range(op.first.dim())]
        arrays.append(grid[:, 0].reshape(shape))
    maps.set(op.result, arrays)


@rule("pixel_unshuffle")
def _pixel_unshuffle(maps: FeatureMaps, op: Operation) -> None:
    inner, dim = op.inputs["downscale_factor"] ** 2, op.first.dim() - 3
    maps.set(op.result, [labels.repeat_interleave(inner, dim) for labels in maps.of(op.first)])


@rule("split", "split_with_sizes", "chunk", "unsafe_split", "unsafe_split_with_sizes", "split_copy")
@rule("unsafe_chunk", "tensor_split")
def _split(maps: FeatureMaps, op: Operation) -> None:
    dim = op.inputs.get("dim", 0) % op.first.dim()
    sizes = [part.shape[dim] for part in op.result]
    starts = [sum(sizes[:place]) for place in range(len(sizes))]
    arrays = _taken_apart(maps, op, dim, starts)
    for part, start, size in zip(op.result, starts, sizes, strict=True):
        maps.set(part, [_narrowed(labels, dim, start, size) for labels in arrays])


@rule("slice", "narrow", "slice_copy")
def _slice(maps: FeatureMaps, op: Operation) -> None:
    x, result = op.first, op.result
    dim = op.inputs.get("dim", 0) % x.dim()
    size, length = x.shape[dim], result.shape[dim]
    if length == size:
        maps.set(result, maps.of(x))
        return
    start = op.inputs.get("start") or 0
    start = min(start + size if start < 0 else start, size)
    step = op.inputs.get("step", 1)
    is_part = step == 1 and length > 0 and size % length == 0 and start % length == 0
    starts = list(range(0, size, length)) if is_part else [0, start]
    arrays = _taken_apart(maps, op, dim, starts)
    maps.set(result, [_narrowed(labels, dim, start, length) for labels in arrays])


def _taken_apart(maps: FeatureMaps, op: Operation, dim: int, starts: Sequence[int]) -> list[Tensor]:
    arrays = maps.of(op.first)
    size = op.first.shape[dim]
    is_even = size % len(starts) == 0 and list(starts) == list(range(0, size, size // len(starts)))
    if len(starts) == 1:
        return arrays
    if not is_even:
        return maps.mixed(arrays, [dim], f"{op.name} into unequal parts")
    if len(starts) == size:
        return maps.mixed(arrays, [dim], f"{op.name} into single channels")
    maps.split(arrays, dim, len(starts))
    return arrays


def _narrowed(labels: Tensor, dim: int, start: int, length: int) -> Tensor:
    return labels.narrow(dim, start, length) if labels.shape[dim] > 1 else labels


@rule("select", "unbind", "select_copy", "unbind_copy")
def _selected(maps: FeatureMaps, op: Operation) -> None:
    """One position of a dimension at a time, whose number the code knows."""
    dim = op.inputs.get("dim", 0) % op.first.dim()
    arrays = maps.mixed(maps.of(op.first), [dim], op.name)
    for result in op.results:
        maps.set(
            result,
            [labels.narrow(dim, 0, 1).squeeze(dim) for labels in arrays if labels.shape[dim] == 1],
        )


@rule("cat", "concat", "hstack")
def _joined(maps: FeatureMaps, op: Operation) -> None:
    tensors = [tensor for tensor in op.inputs["tensors"] if tensor.shape != (0,)]
    dim = op.inputs.get("dim", 0) % op.result.dim()
    maps.set(op.result, maps.joined(tensors, dim, op.name))


@rule("stack")
def _stacked(maps: FeatureMaps, op: Operation) -> None:
    dim = op.inputs.get("dim", 0) % op.result.dim()
    arrays = maps.met(op.inputs["tensors"], op.inputs["tensors"][0].shape, op.name)
    maps.set(op.result, [labels.unsqueeze(dim) for labels in arrays])


@rule("repeat")
def _repeated(maps: FeatureMaps, op: Operation) -> None:
    repeats = op.inputs["repeats"]
    lead = len(repeats) - op.first.dim()
    arrays = []
    for labels in maps.of(op.first):
        wide = labels.reshape((1,) * lead + labels.shape)
        arrays.append(
            wide.repeat([times if wide.shape[d] > 1 else 1 for d, times in enumerate(repeats)])
        )
    maps.set(op.result, arrays)


@rule("roll", "roll_copy")
def _rolled(maps: FeatureMaps, op: Operation) -> None:
    dims = op.inputs.get("dims") or range(op.first.dim())
    dims = [dim % op.first.dim() for dim in dims]
    maps.set(op.result, maps.mixed(maps.of(op.first), dims, op.name))


@rule("flip")
def _flipped(maps: FeatureMaps, op: Operation) -> None:
    maps.set(op.result, [labels.flip(op.inputs["dims"]) for labels in maps.of(op.first)])


@rule("constant_pad_nd", "pad")
def _padded(maps: FeatureMaps, op: Operation) -> None:
    """What is added stays."""
    pad = op.inputs["pad"]
    arrays = []
    for labels in maps.of(op.first):
        widths = [
            width if labels.shape[-1 - place // 2] > 1 else 0 for place, width in enumerate(pad)
        ]
        if min(widths, default=0) < 0:
            maps.pin([labels], op.name)
        else:
            arrays.append(torch.nn.functional.pad(labels, widths))
    maps.set(op.result, arrays)


@rule("index", "_unsafe_index", "index_select", "gather", "embedding")
def _indexed(maps: FeatureMaps, op: Operation) -> None:
    x = op.first
    if op.name in ("gather", "index_select"):
        dims, start, num_new = [op.inputs["dim"] % x.dim()], op.inputs["dim"] % x.dim(), 1
    elif op.name == "embedding":
        dims, start, num_new = [0], 0, op.inputs["indices"].dim()
    else:
        indices = op.inputs["indices"]
        dims = [dim for dim, index in enumerate(indices) if index is not None]
        if any(indices[dim].dtype in (torch.bool, torch.uint8) for dim in dims):
            raise NotImplementedError("indexing by a mask")
        is_block = dims == list(range(dims[0], dims[-1] + 1))
        start = dims[0] if is_block else 0
        num_new = max(indices[dim].dim() for dim in dims)
    arrays = []
    for labels in maps.mixed(maps.of(x), dims, op.name):
        sizes = [size for dim, size in enumerate(labels.shape) if dim not in dims]
        arrays.append(labels.reshape([*sizes[:start], *[1] * num_new, *sizes[start:]]))
    maps.set(op.result, arrays)
