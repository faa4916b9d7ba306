"""Norms: over channels they make them stay, beside channels they go with them."""

from collections.abc import Sequence

from torch import Tensor

from lightning_cost.pruning.structure.feature_maps import FeatureMaps
from lightning_cost.pruning.structure.labels import varying
from lightning_cost.pruning.structure.operators.rule import Operation, rule

_NORMALISED = "normalised over channels"


@rule("native_layer_norm", "_fused_rms_norm", "rms_norm")
def _normalised_over_last(maps: FeatureMaps, op: Operation) -> None:
    num = len(op.inputs["normalized_shape"])
    x = op.first
    arrays = maps.mixed(maps.of(x), range(x.dim() - num, x.dim()), _NORMALISED)
    for name in ("weight", "bias"):
        maps.pin(maps.of(op.inputs.get(name)), _NORMALISED)
    maps.set(op.results[0], arrays)


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
