"""Finding the channel groups of a network."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from torch import nn

from lightning_cost.cost.forward import Example
from lightning_cost.network.deploy import Deployable
from lightning_cost.network.lineage import lineage_of
from lightning_cost.pruning.structure.followers import with_followers
from lightning_cost.pruning.structure.grouping import ChannelGroup, Grouping, Member
from lightning_cost.pruning.structure.labels import Ints, Units
from lightning_cost.pruning.structure.layers import (
    Axis,
    axes_of,
    axis_of,
    is_consuming,
    layer_axis,
    parameter_axis,
)
from lightning_cost.pruning.structure.tracing import Trace, trace
from lightning_cost.pruning.structure.verification import faulty_groups

_UNREAD = "it is not on a traced way to the output"
_TOGETHER = "its channels can only go all together"
_SEVERAL_WAYS = "its channels are coupled in several ways"
_FAULTY = "more depends on its channels than the layers that were traced"


def channel_groups(
    network: nn.Module, example: Example, *, exclude: Sequence[str] = ()
) -> Grouping:
    """The groups of output channels of ``network`` that can be removed together.

    What the trace of a forward pass says is verified: removing half of each group must give the
    same outputs as silencing that half. The network is left as it was found.

    Args:
        network: The dense network.
        example: What one forward pass takes.
        exclude: Names of modules whose output channels, and those of their children, all stay.

    Returns:
        The groups, in the order of ``named_modules``, and the layers that are left alone.

    Raises:
        ValueError: If ``exclude`` names a module that the network does not have, or if the network
            is prepared for quantisation.
    """
    modules = dict(network.named_modules())
    _require_floating_point(modules.values())
    for name in exclude:
        if name not in modules:
            raise ValueError(
                f"exclude must name modules of the network, got {name!r}; "
                f"it has {', '.join(map(repr, list(modules)[1:12]))}, ..."
            )
    found = trace(network, example)
    units = found.links.units()
    axes = _units_along_axes(network, found, units)
    reasons = _reasons(network, axes, units, exclude)
    named = _named(network, _uniform_sets(axes, reasons), axes)
    groups = tuple(group for group, _ in named if group.num_channels > 1)
    single = {name for group, _ in named if group.num_channels == 1 for name in group.producers}
    grouping = Grouping(
        groups=groups,
        left_alone=_left_alone(axes, reasons, groups, single),
        sizes=_sizes(network, groups),
    )
    units_of = {group.name: own for group, own in named}
    grids = [(grid.module, units.of[grid.labels.numpy()]) for grid in found.links.grids]
    grouping = with_followers(network, example, grouping, units_of, grids)
    return grouping.without(faulty_groups(network, example, grouping), _FAULTY)


def _require_floating_point(modules: Iterable[nn.Module]) -> None:
    if any(isinstance(change, Deployable) for module in modules for change in lineage_of(module)):
        raise ValueError(
            "network must be pruned before it is prepared for quantisation, got one with fake "
            "quantisers; prune a network in floating point, and quantise what comes of it"
        )


@dataclass(frozen=True, slots=True)
class _Along:
    """The unit of each position along one axis of one layer."""

    module: str
    axis: Axis
    units: Ints


_UnitSet: TypeAlias = dict[int, dict[int, list[int]]]
"""Positions of each unit along each of the axes that all of them run through."""


def _units_along_axes(network: nn.Module, found: Trace, units: Units) -> list[_Along]:
    """Of every axis that labels were given to, in the order of ``named_modules``."""
    claims: dict[tuple[str, Axis], list[Ints]] = defaultdict(list)
    for (holder, dim), labels in found.labels.items():
        layer = network.get_submodule(holder.module)
        axis = layer_axis(layer, holder.name, dim)
        if axis is None and axes_of(layer) and holder.name == "weight":
            continue  # the inputs of one group of a convolution
        if axis is None:
            wanted = int(labels[0]) in found.wanted
            axis = parameter_axis(holder.name, dim, is_consuming=wanted)
        claims[holder.module, axis].append(units.of[labels.numpy()])
    for name, labels in found.inputs.items():
        claims[name, "in"].append(units.of[labels.numpy()])
    for several in claims.values():
        for other in several[1:]:
            for unit in {*several[0][several[0] != other], *other[several[0] != other]}:
                is_read = int(unit) in units.read
                units.reasons.setdefault(int(unit), _SEVERAL_WAYS if is_read else _UNREAD)
    return [_Along(name, axis, several[0]) for (name, axis), several in claims.items()]


def _reasons(
    network: nn.Module, axes: Sequence[_Along], units: Units, exclude: Sequence[str]
) -> dict[int, str]:
    """Why units stay, by unit."""
    reasons: dict[int, str] = {}
    for along in axes:
        layer = network.get_submodule(along.module)
        owner = along.module.partition(".parametrizations")[0]
        reason = None
        if not is_consuming(along.axis):
            within = [name for name in exclude if f"{along.module}.".startswith(f"{name}.")]
            reason = f"{within[0]} is excluded" if within else None
        if owner != along.module or hasattr(layer, "parametrizations"):
            reason = f"the weight of {owner} is parametrised"
        if reason is not None:
            for unit in np.unique(along.units).tolist():
                reasons.setdefault(unit, reason)
    reasons = {**units.reasons, **reasons}
    for along in axes:
        for unit in np.unique(along.units).tolist():
            if unit not in units.read:
                reasons.setdefault(unit, _UNREAD)
    return reasons


def _uniform_sets(axes: Sequence[_Along], reasons: Mapping[int, str]) -> list[_UnitSet]:
    """Sets of units that run through the same axes.

    After an addition to a concatenation, say, some channels come from one branch and some from
    the other; widths alone tell the cost of a network only if these are groups of their own.
    """
    index: dict[int, dict[int, list[int]]] = defaultdict(dict)
    for place, along in enumerate(axes):
        for position, unit in enumerate(along.units.tolist()):
            if unit not in reasons:
                index[unit].setdefault(place, []).append(position)
    sets: dict[tuple[tuple[int, int], ...], _UnitSet] = defaultdict(dict)
    for unit, by_axis in index.items():
        signature = tuple((place, len(own)) for place, own in by_axis.items())
        sets[signature][unit] = by_axis
    return list(sets.values())


def _named(
    network: nn.Module, found: Sequence[_UnitSet], axes: Sequence[_Along]
) -> list[tuple[ChannelGroup, frozenset[int]]]:
    """Groups and their units, named after the first layer that makes their channels.

    That is a convolution or linear layer, if there is one.
    """
    order = {name: place for place, (name, _) in enumerate(network.named_modules())}
    makers = {name for name, module in network.named_modules() if "in" in axes_of(module)}
    named: dict[str, tuple[ChannelGroup, frozenset[int]]] = {}
    for units in found:
        places = next(iter(units.values()))
        members = [
            Member(
                module=axes[place].module,
                axis=axes[place].axis,
                index=tuple(tuple(by_axis[place]) for by_axis in units.values()),
            )
            for place in places
        ]
        producers = [member.module for member in members if not is_consuming(member.axis)]
        name = min(
            producers or [member.module for member in members],
            key=lambda module: (module not in makers, order[module]),
        )
        taken = sum(other.partition("#")[0] == name for other in named)
        name = f"{name}#{taken + 1}" if taken else name
        group = ChannelGroup(
            name=name,
            num_channels=len(units),
            members=tuple(sorted(members, key=lambda member: order[member.module])),
        )
        named[name] = (group, frozenset(units))
    return sorted(named.values(), key=lambda each: order[each[0].name.partition("#")[0]])


def _left_alone(
    axes: Sequence[_Along],
    reasons: Mapping[int, str],
    groups: Sequence[ChannelGroup],
    single: set[str],
) -> dict[str, str]:
    """The layers without any channel in a group, and why."""
    named = {name for group in groups for name in group.producers}
    left_alone: dict[str, str] = {}
    for along in axes:
        if along.axis == "out" and along.module not in named:
            told = [reasons[unit] for unit in along.units.tolist() if unit in reasons]
            if told or along.module in single:
                left_alone[along.module] = told[0] if told else _TOGETHER
    return left_alone


def _sizes(network: nn.Module, groups: Sequence[ChannelGroup]) -> dict[str, dict[Axis, int]]:
    sizes: dict[str, dict[Axis, int]] = {}
    for group in groups:
        for member in group.members:
            axis = axis_of(network.get_submodule(member.module), member.axis)
            assert axis is not None
            sizes.setdefault(member.module, {})[member.axis] = axis.size
    return sizes
