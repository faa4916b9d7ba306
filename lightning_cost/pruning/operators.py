"""What each operator of a forward pass does to the labels of channels.

Every rule gets the operator's arguments by name and its result, and writes down which labels go
together, which stay, and the labels of the result. An operator without a rule makes the channels
that reach it stay.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from lightning_cost.cost.forward import tensors_of
from lightning_cost.pruning.feature_maps import FeatureMaps
from lightning_cost.pruning.labels import compressed, varying


@dataclass(frozen=True, slots=True)
class Operation:
    """One operator that ran.

    Args:
        name: Without namespace and overload: ``"add"``.
        inputs: Its arguments by name.
        result: What it returned.
    """

    name: str
    inputs: Mapping[str, Any]
    result: Any

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors among its arguments."""
        return tensors_of(list(self.inputs.values()))

    @property
    def results(self) -> list[Tensor]:
        """The tensors that it returned."""
        return tensors_of(self.result)

    @property
    def first(self) -> Tensor:
        """Its first argument."""
        tensor: Tensor = next(iter(self.inputs.values()))
        return tensor


Rule: TypeAlias = Callable[[FeatureMaps, Operation], None]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """The decorated function is the rule of the operators ``names``."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


def follow(maps: FeatureMaps, func: Any, args: Sequence[Any], kwargs: Any, result: Any) -> None:
    """Write down what ``func`` did to labels."""
    packet = getattr(func, "_overloadpacket", func)
    name = str(getattr(packet, "__name__", packet))
    schema = getattr(func, "_schema", None)
    names = [argument.name for argument in schema.arguments] if schema else map(str, range(99))
    inputs = {**dict(zip(names, args, strict=False)), **kwargs}
    operation = Operation(name, inputs, result)
    maps.note_used(operation.tensors)
    applied = _rule_for(func, operation)
    if applied is None:
        if any(maps.of(tensor) for tensor in operation.tensors):
            _unknown(maps, operation)
        return
    try:
        applied(maps, operation)
    except Exception:  # an operator used as no rule foresees: its channels stay
        _unknown(maps, operation)


def _rule_for(func: Any, operation: Operation) -> Rule | None:
    name = operation.name
    known = RULES.get(name) or RULES.get(name.rstrip("_"))
    if known is not None:
        return known
    return _pointwise if _is_pointwise(func, name) else None


def _is_pointwise(func: Any, name: str) -> bool:
    """In-place operators are not always tagged, but what they do in place is."""
    if torch.Tag.pointwise in getattr(func, "tags", ()):
        return True
    packet = getattr(torch.ops.aten, name.rstrip("_"), None) if name.endswith("_") else None
    overloads = packet.overloads() if packet is not None else ()
    return any(torch.Tag.pointwise in getattr(packet, each).tags for each in overloads)


def _unknown(maps: FeatureMaps, operation: Operation) -> None:
    for tensor in operation.tensors:
        maps.pin(maps.of(tensor), operation.name)
    for tensor in operation.results:
        maps.set(tensor, ())


# --- one element of each tensor at a time ---------------------------------------------------------


@rule("copy", "masked_fill", "where", "clamp", "fill", "zero", "_to_copy", "clone", "detach")
@rule(
    "alias", "lift_fresh", "contiguous", "native_dropout", "_prelu_kernel", "_conj", "resolve_conj"
)
@rule(
    "hardswish", "hardsigmoid", "hardtanh", "relu6", "silu", "mish", "celu", "elu", "selu", "gelu"
)
@rule("leaky_relu", "log_sigmoid_forward", "softplus", "softshrink", "hardshrink", "threshold")
@rule("dropout", "rrelu_with_noise", "bernoulli", "normal", "uniform", "_fused_dropout")
def _pointwise(maps: FeatureMaps, op: Operation) -> None:
    for result in op.results:
        maps.set(result, maps.met(op.tensors, result.shape, op.name))


@rule("zeros", "ones", "full", "empty", "zeros_like", "ones_like", "full_like", "empty_like")
@rule("new_zeros", "new_ones", "new_full", "new_empty", "rand_like", "randn_like")
def _constant(maps: FeatureMaps, op: Operation) -> None:
    """As wide as what it meets: its size follows from that of others, or from an attribute."""
    if op.result.is_floating_point():
        maps.label_constant(op.result)


@rule("native_layer_norm", "_fused_rms_norm", "rms_norm")
def _normalised_over_last(maps: FeatureMaps, op: Operation) -> None:
    num = len(op.inputs["normalized_shape"])
    x = op.first
    arrays = maps.mixed(maps.of(x), range(x.dim() - num, x.dim()), _NORMALISED)
    for name in ("weight", "bias"):
        maps.pin(maps.of(op.inputs.get(name)), _NORMALISED)
    maps.set(op.results[0], arrays)


_NORMALISED = "normalised over channels"


@rule(
    "_softmax", "_log_softmax", "cumsum", "cumprod", "sort", "topk", "_safe_softmax", "logcumsumexp"
)
def _mixed_along_dim(maps: FeatureMaps, op: Operation) -> None:
    dim = op.inputs.get("dim", -1) % op.first.dim()
    arrays = maps.mixed(maps.of(op.first), [dim], op.name)
    for result in op.results:
        maps.set(result, arrays)


@rule("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training")
@rule("cudnn_batch_norm", "miopen_batch_norm", "_batch_norm_with_update", "_batch_norm_no_update")
@rule("_native_batch_norm_legit_functional", "batch_norm")
def _batch_norm(maps: FeatureMaps, op: Operation) -> None:
    x = op.first
    is_training = bool(op.inputs.get("training", False))
    dims = [dim for dim in range(x.dim()) if dim != 1] if is_training else []
    arrays = maps.mixed(maps.of(x), dims, _NORMALISED)
    entries: list[tuple[Sequence[int], Sequence[Tensor]]] = [(x.shape, arrays)]
    for name in ("weight", "bias", "running_mean", "running_var"):
        tensor = op.inputs.get(name)
        if isinstance(tensor, Tensor):
            shape = [-1 if dim == 1 else 1 for dim in range(x.dim())]
            own = [labels.reshape(shape) for labels in maps.of(tensor)]
            entries.append(([tensor.numel() if dim == 1 else 1 for dim in range(x.dim())], own))
    maps.set(op.results[0], maps.merged(entries, "batch norm"))


@rule("native_group_norm")
def _group_norm(maps: FeatureMaps, op: Operation) -> None:
    x, num_groups = op.first, op.inputs["group"]
    entries: list[tuple[Sequence[int], Sequence[Tensor]]] = []
    arrays = maps.of(x)
    for name in ("weight", "bias"):
        tensor = op.inputs.get(name)
        if isinstance(tensor, Tensor):
            shape = [-1 if dim == 1 else 1 for dim in range(x.dim())]
            own = [labels.reshape(shape) for labels in maps.of(tensor)]
            entries.append(([tensor.numel() if dim == 1 else 1 for dim in range(x.dim())], own))
    arrays = maps.merged([(x.shape, arrays), *entries], "group norm")
    result = []
    for labels in arrays:
        dims = varying(labels)
        if dims != (1,) or num_groups == 1:
            maps.pin([labels], _NORMALISED)
        else:
            grid = labels.reshape(num_groups, -1)
            maps.links.tie_along(grid, [1])
            maps.links.see_as_grid(grid, 0, maps.module)
            result.append(labels)
    maps.set(op.results[0], result)


# --- tensors in another shape ---------------------------------------------------------------------


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


# --- spatial dimensions, and dimensions that disappear --------------------------------------------

_SPATIAL = {
    **{f"max_pool{n}d_with_indices": n for n in (2, 3)},
    **{f"max_pool{n}d": n for n in (1, 2, 3)},
    **{f"avg_pool{n}d": n for n in (1, 2, 3)},
    **{f"adaptive_avg_pool{n}d": n for n in (1, 2, 3)},
    **{f"_adaptive_avg_pool{n}d": n for n in (2, 3)},
    **{f"adaptive_max_pool{n}d": n for n in (1, 2, 3)},
    **{f"reflection_pad{n}d": n for n in (1, 2, 3)},
    **{f"replication_pad{n}d": n for n in (1, 2, 3)},
    **{f"upsample_nearest{n}d": n for n in (1, 2, 3)},
    **{f"_upsample_nearest_exact{n}d": n for n in (1, 2, 3)},
    "mkldnn_max_pool2d": 2,
    "upsample_linear1d": 1,
    "upsample_bilinear2d": 2,
    "_upsample_bilinear2d_aa": 2,
    "upsample_bicubic2d": 2,
    "_upsample_bicubic2d_aa": 2,
    "upsample_trilinear3d": 3,
    "grid_sampler_2d": 2,
    "grid_sampler_3d": 3,
}


@rule(*_SPATIAL)
def _spatial(maps: FeatureMaps, op: Operation) -> None:
    x = op.first
    dims = range(x.dim() - _SPATIAL[op.name], x.dim())
    arrays = maps.mixed(maps.of(x), dims, op.name)
    for result in op.results:
        maps.set(result, arrays)


@rule("mean", "sum", "amax", "amin", "var", "std", "var_mean", "std_mean", "logsumexp", "prod")
@rule("linalg_vector_norm", "norm", "max", "min", "argmax", "argmin", "all", "any", "median")
@rule("nanmean", "nansum", "aminmax", "mode", "count_nonzero", "frobenius_norm")
def _reduced(maps: FeatureMaps, op: Operation) -> None:
    if isinstance(op.inputs.get("other"), Tensor):  # the element-wise max and min
        _pointwise(maps, op)
        return
    x, dims = op.first, op.inputs.get("dim")
    dims = [dims] if isinstance(dims, int) else dims
    dims = sorted({dim % x.dim() for dim in dims or range(x.dim())})
    own = maps.of(x)
    lost = [labels for labels in own if set(varying(labels)) <= set(dims)]
    arrays = maps.mixed(
        [labels for labels in own if set(varying(labels)) - set(dims)], dims, op.name
    )
    for result in op.results:
        maps.pin_if_read(result, lost, f"{op.name} over channels")
        if result.dim() < x.dim():
            shapes = [
                [size for dim, size in enumerate(labels.shape) if dim not in dims]
                for labels in arrays
            ]
            maps.set(
                result,
                [labels.reshape(shape) for labels, shape in zip(arrays, shapes, strict=True)],
            )
        else:
            maps.set(result, arrays)


# --- products -------------------------------------------------------------------------------------


def product(
    maps: FeatureMaps,
    left: tuple[Sequence[int], Sequence[Tensor]],
    right: tuple[Sequence[int], Sequence[Tensor]],
) -> list[Tensor]:
    """Labels of the product of ``left`` [..., M, K] and ``right`` [..., N, K], summed over K.

    Args:
        maps: Where ties are written down.
        left: Shape and labels.
        right: Shape and labels, with as many dimensions.

    Returns:
        Labels of the result [..., M, N].
    """
    num_dims = len(left[0])
    summed: list[list[Tensor]] = []
    kept: list[list[Tensor]] = []
    for _, arrays in (left, right):
        summed.append([])
        kept.append([])
        for labels in arrays:
            dims = varying(labels)
            if dims == (num_dims - 1,):
                summed[-1].append(labels)
                maps.links.mark_read(labels)
            elif num_dims - 1 in dims:
                kept[-1].append(maps.links.tie_along(labels, [num_dims - 1]))
                maps.links.mark_read(labels)
            else:
                kept[-1].append(labels)
    for own, others in (summed, reversed(summed)):
        for labels in own:
            for other in others:
                maps.links.tie(labels, other)
            if not others:
                maps.pin([labels], "a product with values that have no channels")
    lefts = kept[0]
    rights = [labels.transpose(-1, -2) for labels in kept[1]]
    shape_left = [*left[0][:-1], 1]
    shape_right = [*right[0][:-2], 1, right[0][-2]]
    return maps.merged([(shape_left, lefts), (shape_right, rights)], "a product")


def _operand(maps: FeatureMaps, tensor: Tensor, *, transposed: bool) -> tuple[Any, list[Tensor]]:
    """Shape and labels of a factor, its summed dimension last."""
    shape, arrays = list(tensor.shape), maps.of(tensor)
    if transposed:
        shape = [*shape[:-2], shape[-1], shape[-2]]
        arrays = [labels.transpose(-1, -2) for labels in arrays]
    _note_wanted(maps, tensor, arrays)
    return shape, arrays


def _note_wanted(maps: FeatureMaps, tensor: Tensor, arrays: Sequence[Tensor]) -> None:
    if maps.is_weight(tensor):
        maps.wanted += [labels.flatten() for labels in arrays if labels.shape[-1] > 1]


@rule("mm", "bmm")
def _matrix_product(maps: FeatureMaps, op: Operation) -> None:
    left, right = list(op.inputs.values())[:2]
    arrays = product(
        maps,
        _operand(maps, left, transposed=False),
        _operand(maps, right, transposed=True),
    )
    maps.set(op.result, arrays)


@rule("addmm", "baddbmm", "_addmm_activation", "addmv")
def _added_product(maps: FeatureMaps, op: Operation) -> None:
    added, left, right = list(op.inputs.values())[:3]
    if op.name == "addmv":
        raise NotImplementedError("a vector")
    arrays = product(
        maps,
        _operand(maps, left, transposed=False),
        _operand(maps, right, transposed=True),
    )
    shape = op.result.shape
    lead = (1,) * (len(shape) - added.dim())
    own = [labels.reshape(lead + labels.shape) for labels in maps.of(added)]
    maps.set(op.result, maps.merged([((*lead, *added.shape), own), (shape, arrays)], "an addition"))


@rule("linear")
def _linear(maps: FeatureMaps, op: Operation) -> None:
    x, weight = op.first, op.inputs["weight"]
    lead = x.dim() - 2
    arrays = [labels.reshape((1,) * lead + labels.shape) for labels in maps.of(weight)]
    _note_wanted(maps, weight, arrays)
    shape = (1,) * lead + tuple(weight.shape)
    found = product(maps, (x.shape, maps.of(x)), (shape, arrays))
    bias = op.inputs.get("bias")
    if isinstance(bias, Tensor):
        own = [labels.reshape((1,) * (x.dim() - 1) + labels.shape) for labels in maps.of(bias)]
        found = maps.merged(
            [(op.result.shape, found), ((1,) * (x.dim() - 1) + bias.shape, own)], "an addition"
        )
    maps.set(op.result, found)


@rule("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention")
@rule("_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention")
@rule("_scaled_dot_product_fused_attention_overrideable", "_scaled_dot_product_attention_math")
def _attention(maps: FeatureMaps, op: Operation) -> None:
    query, key, value = list(op.inputs.values())[:3]
    arrays = [maps.of(tensor) for tensor in (query, key)]
    if op.inputs.get("scale") is None:  # it comes of the number of channels that are multiplied
        arrays = [maps.mixed(each, [query.dim() - 1], "scaled by their number") for each in arrays]
    scores = product(maps, (query.shape, arrays[0]), (key.shape, arrays[1]))
    shape = (*query.shape[:-1], key.shape[-2])
    mask = op.inputs.get("attn_mask", op.inputs.get("attn_bias"))
    if isinstance(mask, Tensor):
        lead = (1,) * (len(shape) - mask.dim())
        own = [labels.reshape(lead + labels.shape) for labels in maps.of(mask)]
        scores = maps.merged([(shape, scores), ((*lead, *mask.shape), own)], "a mask")
    scores = maps.mixed(scores, [len(shape) - 1], "attention")
    value_shape, values = _operand(maps, value, transposed=True)
    maps.set(op.results[0], product(maps, (shape, scores), (value_shape, values)))


@rule("convolution", "_convolution", "convolution_overrideable", "mkldnn_convolution")
def _convolution(maps: FeatureMaps, op: Operation) -> None:
    x, weight, bias = op.first, op.inputs["weight"], op.inputs.get("bias")
    is_transposed, groups = bool(op.inputs["transposed"]), int(op.inputs["groups"])
    num_dims = x.dim()
    channel = num_dims - weight.dim() + 1
    inputs = maps.mixed(
        maps.of(x), [dim for dim in range(num_dims) if dim != channel], "a convolution"
    )
    into = [labels for labels in inputs if varying(labels) == (channel,)]
    maps.pin([labels for labels in inputs if varying(labels) != (channel,)], "a convolution")
    arrays = maps.of(weight)
    outer = [labels.flatten() for labels in arrays if varying(labels) == (0,)]
    inner = [labels.flatten() for labels in arrays if varying(labels) == (1,)]
    maps.pin(
        [labels for labels in arrays if len(varying(labels)) != 1 or varying(labels)[0] > 1],
        "a convolution",
    )
    ins = into[0].flatten() if into else None
    if groups == 1:
        wanted, made = (outer, inner) if is_transposed else (inner, outer)
        maps.wanted += wanted
        _consumed(maps, ins, wanted[0] if wanted else None)
        out = made[0] if made else None
    else:
        out = _grouped(maps, op, ins, outer[0] if outer else None, inner[0] if inner else None)
    found = [] if out is None else [out]
    if isinstance(bias, Tensor):
        entries = [((bias.numel(),), found), (bias.shape, maps.of(bias))]
        found = maps.merged(entries, "an addition")
    shape = [-1 if dim == channel else 1 for dim in range(num_dims)]
    maps.set(op.result, [labels.reshape(shape) for labels in found])


def _consumed(maps: FeatureMaps, ins: Tensor | None, wanted: Tensor | None) -> None:
    for labels, other in ((ins, wanted), (wanted, ins)):
        if labels is not None:
            maps.links.mark_read(labels)
            if other is None:
                maps.pin([labels], "a product with values that have no channels")
    if ins is not None and wanted is not None:
        maps.links.tie(ins, wanted)


def _grouped(
    maps: FeatureMaps, op: Operation, ins: Tensor | None, outer: Tensor | None, inner: Tensor | None
) -> Tensor | None:
    """Labels of the outputs of a convolution in groups.

    Groups go as a whole, which leaves those that stay as wide as they were; unless there are few
    of them, where each loses equally many channels.
    """
    weight, groups = op.inputs["weight"], int(op.inputs["groups"])
    is_transposed = bool(op.inputs["transposed"])
    num_in = op.first.shape[op.first.dim() - weight.dim() + 1]
    num_out = op.result.shape[op.first.dim() - weight.dim() + 1]
    num_inner = min(num_in, num_out) // groups
    if is_transposed and (num_in != num_out or groups != num_in):
        for labels in (ins, outer, inner):
            if labels is not None:
                maps.pin([labels], f"a transposed convolution in {groups} groups")
        return None
    if ins is None:
        wanted = [labels for labels in (outer, inner) if labels is not None]
        maps.pin(wanted, "a convolution of values that have no channels")
        return None
    if outer is None:
        maps.pin([ins], "a convolution in groups with a weight of no layer")
        return None
    blocks_in, blocks_out = ins.reshape(groups, -1), outer.reshape(groups, -1)
    maps.grouped.append((weight, ins))
    if groups != num_in:
        maps.links.mark_read(ins)
    if goes_by_groups(groups, num_inner):
        first = maps.links.tie_along(blocks_in, [1])
        maps.links.tie(first, blocks_out)
        if inner is not None:
            maps.pin([inner], "within its group")
        return outer
    maps.links.tie_along(blocks_out, [0])
    maps.links.tie_along(blocks_in, [0])
    if inner is not None:
        maps.links.tie(blocks_in[0], inner)
        maps.links.mark_read(inner)
    return outer


def goes_by_groups(groups: int, width: int) -> bool:
    """Whether whole groups of a grouped convolution are removed, rather than parts of each.

    >>> goes_by_groups(32, 4), goes_by_groups(2, 64)
    (True, False)
    """
    return groups >= min(8, width) or width == 1


@rule("mkldnn_rnn_layer")
def _recurrent_layer(maps: FeatureMaps, op: Operation) -> None:
    """One layer of an LSTM in one direction: each hidden channel has a row in each gate."""
    x, hidden = op.first, op.inputs["hx_"]
    weights = [op.inputs[f"weight{place}"] for place in range(4)]
    num_hidden = hidden.shape[-1]
    recurrent = product(
        maps, _operand(maps, hidden, transposed=False), _lifted(maps, weights[1], hidden.dim())
    )
    fed = product(maps, _operand(maps, x, transposed=False), _lifted(maps, weights[0], x.dim()))
    rows = [labels.flatten() for labels in (*recurrent, *fed) if labels.shape[-1] > 1]
    rows += [labels for weight in weights[2:] for labels in maps.of(weight)]
    states = maps.of(hidden) + maps.of(op.inputs["cx_"])
    states = [labels.flatten() for labels in states if labels.shape[-1] > 1]
    for row in rows:
        gates = row.reshape(-1, num_hidden)
        maps.links.tie_along(gates, [0])
        maps.links.see_as_grid(gates, 1, maps.module)
        for other in (rows[0].reshape(-1, num_hidden)[0], *states):
            maps.links.tie(gates[0], other)
    output = rows[0].reshape(-1, num_hidden)[0]
    for result in op.results[:3]:
        maps.set(result, [output.reshape([*[1] * (result.dim() - 1), -1])])


def _lifted(maps: FeatureMaps, tensor: Tensor, num_dims: int) -> tuple[Any, list[Tensor]]:
    lead = (1,) * (num_dims - tensor.dim())
    arrays = [labels.reshape(lead + labels.shape) for labels in maps.of(tensor)]
    _note_wanted(maps, tensor, arrays)
    return (*lead, *tensor.shape), arrays


_IGNORED = ("arange", "scalar_tensor", "_assert_async", "_assert_tensor_metadata", "is_same_size")


@rule(*_IGNORED)
def _ignored(maps: FeatureMaps, op: Operation) -> None:
    """No channel runs through these."""
