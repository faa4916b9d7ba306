"""Raw scores of channels, from the layers that produce them."""

from collections.abc import Mapping
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lightning_cost.pruning.structure.grouping import Grouping, Member
from lightning_cost.pruning.structure.layers import Axis, axis_of, is_consuming

SALIENCIES = ("l2", "l1", "bn_scale", "taylor", "fpgm")
COMBINATIONS = ("sum", "mean")
SaliencyKind: TypeAlias = Literal["l2", "l1", "bn_scale", "taylor", "fpgm"]
Saliency: TypeAlias = dict[str, Tensor]
"""Scores [num_channels] of the channels of each group, on the CPU."""


@torch.no_grad()
def group_saliency(
    network: nn.Module,
    grouping: Grouping,
    kind: SaliencyKind = "l2",
    combine: Literal["sum", "mean"] = "sum",
    *,
    importance: Mapping[str, Tensor] | None = None,
) -> Saliency:
    """Score every channel by the layers that produce it.

    Args:
        network: The dense network.
        grouping: Its channel groups.
        kind: ``"l2"``: squared L2 norm of the filter, depthwise filters included; ``"l1"``: its
            sum of magnitudes; ``"bn_scale"``: magnitude of batch norm's scale; ``"taylor"``: the
            filter's sum of ``importance``; ``"fpgm"``: the sum of its distances to the layer's
            other filters, which is least for the one that they can best replace.
        combine: How the scores of a group's producers become one.
        importance: Of each weight by name, as ``weight_importance`` gives it; for ``"taylor"``.

    Returns:
        Scores [num_channels] in double precision by group name.

    Raises:
        ValueError: If a group has nothing of this kind to score, a score is not finite, or
            ``importance`` is missing.

    Reference:
        ``"l2"``: Chin et al., "Towards Efficient Model Compression via Learned Global Ranking",
        2020, section 3, summed over coupled filters. ``"fpgm"``: He et al., "Filter Pruning via
        Geometric Median for Deep Convolutional Neural Networks Acceleration", 2019, equation 7.
    """
    if kind == "taylor" and importance is None:
        raise ValueError(
            "importance must be given for kind='taylor', got none; take weight_importance of some "
            "batches, or use kind='l2'"
        )
    saliency = {}
    for group in grouping.groups:
        scores = [
            _member_scores(network.get_submodule(member.module), member, kind, importance or {})
            for member in group.members
            if _is_scored(network.get_submodule(member.module), member.axis, kind)
        ]
        if not scores:
            raise ValueError(
                f"kind must be one that every group has layers for, got {kind!r}, which group "
                f"{group.name!r} has none for; use kind='l2'"
            )
        total = torch.stack(scores).sum(dim=0)
        saliency[group.name] = total / len(scores) if combine == "mean" else total
        if not bool(torch.isfinite(saliency[group.name]).all()):
            raise ValueError(
                f"weights must be finite to be ranked, got NaN or infinity in group "
                f"{group.name!r}; train with a lower learning rate"
            )
    return saliency


def normalised(saliency: Mapping[str, Tensor]) -> Saliency:
    """Scores divided by the mean of their group, so that groups can be compared.

    >>> normalised({"a": torch.tensor([1.0, 3.0])})["a"].tolist()
    [0.5, 1.5]
    """
    return {
        name: scores / mean if (mean := scores.mean()) > 0 else torch.ones_like(scores)
        for name, scores in saliency.items()
    }


def quantiles(saliency: Mapping[str, Tensor]) -> Saliency:
    """Each channel's rank within its group, in (0, 1]: a global ranking by it is uniform width.

    >>> quantiles({"a": torch.tensor([5.0, 1.0])})["a"].tolist()
    [1.0, 0.5]
    """
    return {
        name: (scores.argsort(stable=True).argsort() + 1).double() / len(scores)
        for name, scores in saliency.items()
    }


def _is_scored(layer: nn.Module, axis: Axis, kind: SaliencyKind) -> bool:
    if is_consuming(axis):
        return False
    if kind == "bn_scale":
        return isinstance(layer, _BatchNorm) and layer.affine
    return _filters(layer, axis) is not None


def _filters(layer: nn.Module, axis: Axis) -> tuple[str, int] | None:
    """The parameter that makes the channels along ``axis``, and its dimension that they are."""
    found = axis_of(layer, axis)
    tensors = {} if found is None else found.tensors
    for name, dim in tensors.items():
        if getattr(layer, name).dim() > 1:
            return name, dim
    return None


_SUMMED = 64


def _member_scores(
    layer: nn.Module, member: Member, kind: SaliencyKind, importance: Mapping[str, Tensor]
) -> Tensor:
    """Scores [num_channels] of one layer; several positions of a channel add up."""
    name, dim = _filters(layer, member.axis) or ("weight", 0)
    weight = layer.get_parameter(name).detach().cpu().float()
    if kind == "taylor":
        weight = importance[f"{member.module}.{name}".lstrip(".")].cpu().float()
    by_position = weight.movedim(dim, 0)
    filters = by_position.reshape(len(by_position), -1)[torch.tensor(member.index)].flatten(1)
    if kind == "fpgm":
        # not by a matrix product, which loses the small distances
        distances = torch.cdist(filters, filters, compute_mode="donot_use_mm_for_euclid_dist")
        return distances.sum(dim=1, dtype=torch.float64)
    if kind == "l2":
        filters.square_()  # of the copy that indexing made
    elif kind != "taylor":
        filters.abs_()
    # a part at a time, as torch makes a copy in double precision of what it sums
    parts = torch.split(filters, _SUMMED)
    return torch.cat([part.sum(dim=1, dtype=torch.float64) for part in parts])
