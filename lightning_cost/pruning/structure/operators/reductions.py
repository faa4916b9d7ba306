"""Operators that look along dimensions: pooling, sums and extremes, softmax."""

from torch import Tensor

from lightning_cost.pruning.structure.feature_maps import FeatureMaps
from lightning_cost.pruning.structure.labels import varying
from lightning_cost.pruning.structure.operators.elementwise import pointwise
from lightning_cost.pruning.structure.operators.rule import Operation, rule

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
        pointwise(maps, op)
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


@rule(
    "_softmax", "_log_softmax", "cumsum", "cumprod", "sort", "topk", "_safe_softmax", "logcumsumexp"
)
def _mixed_along_dim(maps: FeatureMaps, op: Operation) -> None:
    dim = op.inputs.get("dim", -1) % op.first.dim()
    arrays = maps.mixed(maps.of(op.first), [dim], op.name)
    for result in op.results:
        maps.set(result, arrays)
