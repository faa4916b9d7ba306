"""Matrix products, attention, convolutions and recurrent layers."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from lightning_cost.pruning.structure.feature_maps import FeatureMaps
from lightning_cost.pruning.structure.labels import varying
from lightning_cost.pruning.structure.operators.rule import Operation, rule


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
