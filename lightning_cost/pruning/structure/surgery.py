"""The physical removal of channels."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar, cast

import torch
from torch import LongTensor, Tensor, nn
from torch.nn.modules.conv import _ConvNd
from typing_extensions import override

from lightning_cost.cost.forward import observing
from lightning_cost.network.attention import avoid_nested_tensors
from lightning_cost.network.lineage import Change, ParameterSwap, apply_change
from lightning_cost.pruning.structure.grouping import Grouping
from lightning_cost.pruning.structure.heads import follow_num_heads
from lightning_cost.pruning.structure.layers import Axis, axis_of
from lightning_cost.pruning.structure.plan import Plan, removed_positions, sharing_copy


@dataclass(frozen=True, kw_only=True, slots=True)
class RemoveChannels(Change):
    """Keep some positions of some layers' axes and drop the rest.

    Args:
        kept: Positions that stay, ascending, by layer and axis; axes that stay whole are left out.
        sizes: Size of each of these axes before the change.
        attributes: Other attributes of modules that change, each from what to what.
    """

    kind: ClassVar[str] = "remove_channels"
    kept: Mapping[str, Mapping[Axis, tuple[int, ...]]]
    sizes: Mapping[str, Mapping[Axis, int]]
    attributes: Mapping[str, Mapping[str, tuple[int, int]]] = field(default_factory=dict)

    @override
    def apply(self, network: nn.Module) -> list[ParameterSwap]:
        layers = {name: _layer(network, name) for name in self.kept}
        for name, layer in layers.items():
            self._require_match(name, layer)
        owners = {name: _layer(network, name) for name in self.attributes}
        for name, owner in owners.items():
            _require_attributes(name, owner, self.attributes[name])
        swaps = _Slices().of(layers, self.kept)
        for name, owner in owners.items():
            for attribute, (_, after) in self.attributes[name].items():
                setattr(owner, attribute, after)
        avoid_nested_tensors(network)
        return swaps

    @override
    def to_dict(self) -> dict[str, Any]:
        return {
            "kept": {
                name: {axis: list(positions) for axis, positions in axes.items()}
                for name, axes in self.kept.items()
            },
            "sizes": {name: dict(axes) for name, axes in self.sizes.items()},
            "attributes": {
                name: {attribute: list(values) for attribute, values in own.items()}
                for name, own in self.attributes.items()
            },
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
            attributes={
                name: {attribute: (before, after) for attribute, (before, after) in own.items()}
                for name, own in data.get("attributes", {}).items()
            },
        )

    def _require_match(self, name: str, layer: nn.Module) -> None:
        for axis, positions in self.kept[name].items():
            size = self.sizes[name][axis]
            present = axis_of(layer, axis)
            found = None if present is None else present.size
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
            is_whole = all(type(position) is int for position in positions)
            is_ascending = is_whole and all(a < b for a, b in pairwise(positions))
            if not is_ascending or positions[0] < 0 or positions[-1] >= size:
                raise ValueError(
                    f"kept must list, ascending, some of the {size} {axis} channels of {name!r}, "
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
    return RemoveChannels(kept=kept, sizes=sizes, attributes=_attributes(grouping, plan, done))


def require_at(network: nn.Module, grouping: Grouping, plan: Plan | None) -> None:
    """Raise unless ``network`` has the channels that ``plan`` leaves of the dense one.

    Layers that other changes replaced are passed over.

    Args:
        network: At whatever stage.
        grouping: Groups of the dense network.
        plan: What should stay; ``None``: everything.

    Raises:
        ValueError: Names the first layer of another size.
    """
    gone = {} if plan is None else removed_positions(grouping, plan)
    modules = dict(network.named_modules())
    with observing(network):  # a parametrised weight is computed where it is read
        for name, axes in grouping.sizes.items():
            for axis, size in axes.items():
                present = axis_of(modules[name], axis) if name in modules else None
                expected = len(_others(size, gone.get((name, axis), ())))
                if present is not None and present.size != expected:
                    raise ValueError(
                        f"network must have {expected} {axis} channels at {name!r}, got "
                        f"{present.size}; go on from another checkpoint of the run"
                    )


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


def _attributes(
    grouping: Grouping, plan: Plan, done: Plan | None
) -> dict[str, dict[str, tuple[int, int]]]:
    """Attributes that follow, by module: what they were and what they become."""
    values: dict[tuple[str, str], list[int]] = {}
    for group in grouping.groups:
        widths = [group.num_channels if done is None else len(done.kept[group.name])]
        widths.append(len(plan.kept[group.name]))
        for follower in group.followers:
            key = (follower.module, follower.attribute)
            value = values.setdefault(key, [follower.size, follower.size])
            for place, width in enumerate(widths):
                value[place] -= follower.per_channel * (group.num_channels - width)
    attributes: dict[str, dict[str, tuple[int, int]]] = {}
    for (module, attribute), (before, after) in values.items():
        if before != after:
            attributes.setdefault(module, {})[attribute] = (before, after)
    return attributes


def _require_attributes(
    name: str, owner: nn.Module, attributes: Mapping[str, tuple[int, int]]
) -> None:
    for attribute, (before, after) in attributes.items():
        found = vars(owner).get(attribute)
        is_count = type(before) is int and type(after) is int and 0 < after < before
        if not is_count or attribute.startswith("_"):
            raise ValueError(
                f"attributes must be counts that fall, got {attribute!r} of {name!r} from "
                f"{before!r} to {after!r}; make the change from a plan"
            )
        if found != before:
            raise ValueError(
                f"network must have {attribute}={before} at {name!r}, got {found}; "
                "build the network that these channels were chosen for"
            )


class _Slices:
    """Slices the tensors of layers, those that several layers share once."""

    def __init__(self) -> None:
        self._swaps: dict[int, ParameterSwap] = {}

    def of(
        self,
        layers: Mapping[str, nn.Module],
        kept: Mapping[str, Mapping[Axis, tuple[int, ...]]],
    ) -> list[ParameterSwap]:
        """Slice every layer along its axes; the swaps of their parameters."""
        for name, layer in layers.items():
            self._slice(layer, kept[name])
        return list(self._swaps.values())

    @torch.no_grad()
    def _slice(self, layer: nn.Module, kept: Mapping[Axis, tuple[int, ...]]) -> None:
        by_tensor: dict[str, dict[int, LongTensor]] = {}
        attributes: dict[str, int] = {}
        for axis, positions in kept.items():
            found = axis_of(layer, axis)
            assert found is not None
            for name, dim in found.tensors.items():
                by_tensor.setdefault(name, {})[dim] = _index(positions)
            for attribute, per_position in found.attributes.items():
                attributes[attribute] = len(positions) // per_position
        if isinstance(layer, _ConvNd) and layer.groups > 1 and "in" in kept:
            groups, inner = _regrouped(layer, kept["in"])
            attributes["groups"] = groups
            if inner is not None:
                by_tensor.setdefault("weight", {})[1] = _index(inner)
        for name, by_dim in by_tensor.items():
            setattr(layer, name, self._sliced(getattr(layer, name), by_dim))
        for attribute, size in attributes.items():
            setattr(layer, attribute, size)
        if "num_heads" in attributes:
            follow_num_heads(layer)

    def _sliced(self, old: Tensor, by_dim: dict[int, LongTensor]) -> Tensor:
        if not isinstance(old, nn.Parameter):
            return _sliced(old, by_dim)
        if id(old) not in self._swaps:
            new = nn.Parameter(_sliced(old, by_dim), requires_grad=old.requires_grad)
            self._swaps[id(old)] = ParameterSwap(old=old, new=new, kept=by_dim)
        shared = self._swaps[id(old)].new
        assert shared is not None
        return shared


def _regrouped(layer: _ConvNd, kept: tuple[int, ...]) -> tuple[int, list[int] | None]:
    """Groups of a convolution that keeps these inputs, and which inputs of each group stay.

    ``None`` for all of them: then whole groups go.
    """
    width = layer.in_channels // layer.groups
    groups = sorted({position // width for position in kept})
    if len(kept) == len(groups) * width:
        return len(groups), None
    return layer.groups, [position for position in kept if position < width]


def _index(positions: Iterable[int]) -> LongTensor:
    return cast(LongTensor, torch.tensor(list(positions), dtype=torch.long))


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
