"""The physical removal of channels."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import LongTensor, Tensor, nn
from typing_extensions import override

from lightning_cost.network.lineage import Change, ParameterSwap, apply_change
from lightning_cost.pruning.grouping import Grouping
from lightning_cost.pruning.layers import Axis, axes_of
from lightning_cost.pruning.plan import Plan, removed_positions, sharing_copy


@dataclass(frozen=True, kw_only=True, slots=True)
class RemoveChannels(Change):
    """Keep some positions of some layers' axes and drop the rest.

    Args:
        kept: Positions that stay, ascending, by layer and axis; axes that stay whole are left out.
        sizes: Size of each of these axes before the change.
    """

    kind: ClassVar[str] = "remove_channels"
    kept: Mapping[str, Mapping[Axis, tuple[int, ...]]]
    sizes: Mapping[str, Mapping[Axis, int]]

    @override
    def apply(self, network: nn.Module) -> list[ParameterSwap]:
        layers = {name: _layer(network, name) for name in self.kept}
        for name, layer in layers.items():
            self._require_match(name, layer)
        return [
            swap for name, layer in layers.items() for swap in _slice_layer(layer, self.kept[name])
        ]

    @override
    def to_dict(self) -> dict[str, Any]:
        return {
            "kept": {
                name: {axis: list(positions) for axis, positions in axes.items()}
                for name, axes in self.kept.items()
            },
            "sizes": {name: dict(axes) for name, axes in self.sizes.items()},
        }

    @classmethod
    @override
    def from_dict(cls, data: Mapping[str, Any]) -> "RemoveChannels":
        return cls(
            kept={
                name: {axis: tuple(positions) for axis, positions in axes.items()}
                for name, axes in data["kept"].items()
            },
            sizes={name: dict(axes) for name, axes in data["sizes"].items()},
        )

    def _require_match(self, name: str, layer: nn.Module) -> None:
        axes = axes_of(layer)
        for axis, positions in self.kept[name].items():
            size = self.sizes[name][axis]
            found = axes[axis].size if axis in axes else None
            if found != size:
                raise ValueError(
                    f"network must have {size} {axis} channels at {name!r}, "
                    f"got {type(layer).__name__} with {found}; "
                    "build the network that these channels were chosen for"
                )
            if not positions:
                raise ValueError(
                    f"kept must leave one or more {axis} channels of {name!r}, got none; "
                    "remove the layer from the architecture instead"
                )
            if positions[0] < 0 or positions[-1] >= size:
                raise ValueError(
                    f"kept must lie within the {size} {axis} channels of {name!r}, "
                    f"got {positions[0]} to {positions[-1]}; make the change from a plan"
                )


def removal(grouping: Grouping, plan: Plan, done: Plan | None = None) -> RemoveChannels:
    """The change that brings a network from ``done`` (``None``: dense) to ``plan``.

    Args:
        grouping: Groups of the dense network.
        plan: What stays.
        done: What had stayed before.

    Raises:
        ValueError: If ``plan`` keeps channels that are gone, or is for another grouping.
    """
    if done is not None and not plan.is_within(done):
        raise ValueError(
            "plan must keep channels that are still there, got "
            f"{sum(plan.widths.values())} channels of which some are gone already; "
            "make all plans of a run from one ranking"
        )
    before = {} if done is None else removed_positions(grouping, done)
    kept: dict[str, dict[Axis, tuple[int, ...]]] = {}
    sizes: dict[str, dict[Axis, int]] = {}
    for (name, axis), removed in removed_positions(grouping, plan).items():
        present = _others(grouping.sizes[name][axis], before.get((name, axis), ()))
        gone = set(removed)
        stay = tuple(place for place, position in enumerate(present) if position not in gone)
        if len(stay) < len(present):
            kept.setdefault(name, {})[axis] = stay
            sizes.setdefault(name, {})[axis] = len(present)
    return RemoveChannels(kept=kept, sizes=sizes)


def operated(network: nn.Module, change: Change) -> nn.Module:
    """A copy of ``network`` with ``change`` applied; untouched parameters are shared with it."""
    copied = sharing_copy(network)
    apply_change(copied, change)
    return copied


def _others(size: int, positions: Iterable[int]) -> list[int]:
    gone = set(positions)
    return [position for position in range(size) if position not in gone]


def _layer(network: nn.Module, name: str) -> nn.Module:
    try:
        return network.get_submodule(name)
    except AttributeError as error:
        raise ValueError(
            f"network must have a layer {name!r}, got {type(network).__name__} without it; "
            "build the network that these channels were chosen for"
        ) from error


@torch.no_grad()
def _slice_layer(layer: nn.Module, kept: Mapping[Axis, tuple[int, ...]]) -> Iterable[ParameterSwap]:
    axes = axes_of(layer)
    indices: dict[str, dict[int, LongTensor]] = {}
    for axis, positions in kept.items():
        index = cast(LongTensor, torch.tensor(positions, dtype=torch.long))
        for tensor_name, dim in axes[axis].tensors.items():
            indices.setdefault(tensor_name, {})[dim] = index
    swaps = []
    for tensor_name, by_dim in indices.items():
        old: Tensor = getattr(layer, tensor_name)
        new = _sliced(old, by_dim)
        if isinstance(old, nn.Parameter):
            new = nn.Parameter(new, requires_grad=old.requires_grad)
            swaps.append(ParameterSwap(old=old, new=new, kept=by_dim))
        setattr(layer, tensor_name, new)
    for axis, positions in kept.items():
        for attribute in axes[axis].attributes:
            setattr(layer, attribute, len(positions))
    return swaps


def _sliced(tensor: Tensor, by_dim: Mapping[int, LongTensor]) -> Tensor:
    result = tensor.detach()
    for dim, index in by_dim.items():
        result = result.index_select(dim, index.to(tensor.device))
    return result.contiguous(memory_format=_layout(tensor))


def _layout(tensor: Tensor) -> torch.memory_format:
    for dim, layout in ((4, torch.channels_last), (5, torch.channels_last_3d)):
        is_of_dim = tensor.dim() == dim and not tensor.is_contiguous()
        if is_of_dim and tensor.is_contiguous(memory_format=layout):
            return layout
    return torch.contiguous_format
