"""Attributes by which the code of a module knows how many channels there are: heads, say."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TypeAlias

from torch import nn

from lightning_cost.cost.forward import Example
from lightning_cost.pruning.structure.grouping import ChannelGroup, Follower, Grouping
from lightning_cost.pruning.structure.labels import Ints
from lightning_cost.pruning.structure.layers import axis_of
from lightning_cost.pruning.structure.verification import is_sound

Grids: TypeAlias = Sequence[tuple[str, Ints]]
"""Channels that the code of a module sees as a grid: its name and the unit of each place."""
_Pattern: TypeAlias = frozenset[tuple[type, str, bool]]
# surgery knows these
_KNOWN = (nn.MultiheadAttention, nn.RNNBase, nn.RNNCellBase, nn.GroupNorm)


def with_followers(
    network: nn.Module,
    example: Example,
    grouping: Grouping,
    units_of: Mapping[str, frozenset[int]],
    grids: Grids,
) -> Grouping:
    """The same grouping, with the attributes that have to follow when channels are removed.

    An attribute may be the number of channels, or the size of a dimension that they lie along, or
    another number that happens to be the same. Which, is tried out, once for each kind of module.
    Where none makes the network run, groups of that kind are left alone.

    Args:
        network: The dense network.
        example: What one forward pass takes.
        grouping: Without followers.
        units_of: What each group removes at a time.
        grids: What the trace has seen.
    """
    seen = _seen_by_module(grids)
    choice_of: dict[_Pattern, int | None] = {}
    groups, stuck = [], {}
    for group in grouping.groups:
        followers = _candidates(network, group, units_of[group.name], seen)
        choices = _choices(followers)
        kinds = {each.module: type(network.get_submodule(each.module)) for each in followers}
        pattern = frozenset(
            (kinds[each.module], each.attribute, each.per_channel == 1) for each in followers
        )
        if followers and pattern not in choice_of:
            choice_of[pattern] = _first_sound(network, example, grouping, group, choices)
        choice = choice_of.get(pattern, 0)
        if choice is None:
            told = ", ".join(f"{name} ({kind.__name__})" for name, kind in kinds.items())
            stuck[group.name] = f"the code of {told} does not run with fewer channels"
        groups.append(replace(group, followers=choices[choice or 0]))
    followed = replace(grouping, groups=tuple(groups))
    for name, reason in stuck.items():
        followed = followed.without([name], reason)
    return followed


def _choices(followers: tuple[Follower, ...]) -> list[tuple[Follower, ...]]:
    """Which attributes might be the ones: likely ones first."""
    counts = tuple(follower for follower in followers if follower.per_channel == 1)
    sizes = tuple(follower for follower in followers if follower.per_channel != 1)
    single = [(follower,) for follower in followers]
    return list(dict.fromkeys([followers, counts, (), sizes, *single]))


def _first_sound(
    network: nn.Module,
    example: Example,
    grouping: Grouping,
    group: ChannelGroup,
    choices: Sequence[tuple[Follower, ...]],
) -> int | None:
    for place, choice in enumerate(choices):
        trial = replace(grouping, groups=(replace(group, followers=choice),))
        if is_sound(network, example, trial, {group.name}):
            return place
    return None


def _candidates(
    network: nn.Module,
    group: ChannelGroup,
    units: frozenset[int],
    seen: Mapping[str, Sequence[tuple[frozenset[int], frozenset[int]]]],
) -> tuple[Follower, ...]:
    """Attributes with a number that the code may know the channels of a group by."""
    numbers: dict[str, set[int]] = defaultdict(set)
    others: dict[str, set[int]] = {}
    for member in group.members:
        layer = network.get_submodule(member.module)
        axis = axis_of(layer, member.axis)
        if ":" in member.axis and axis is not None:
            numbers[member.module] |= {axis.size, group.num_channels}
            others[member.module] = _other_sizes(layer, member.module, group)
    for name, other_sizes in others.items():  # of which the attribute may be the size as well
        numbers[name] -= other_sizes
    for name, own in seen.items():
        for found, sizes in own:
            if units & found:
                numbers[name] |= sizes
    return tuple(
        Follower(
            module=name,
            attribute=attribute,
            size=value,
            per_channel=value // group.num_channels,
        )
        for name, possible in numbers.items()
        if not isinstance(network.get_submodule(name), _KNOWN)
        for attribute, value in vars(network.get_submodule(name)).items()
        if type(value) is int and not attribute.startswith("_")
        if value > 1 and value in possible and value % group.num_channels == 0
    )


def _other_sizes(layer: nn.Module, name: str, group: ChannelGroup) -> set[int]:
    """Sizes of the dimensions of a layer's parameters that a group does not run along."""
    own = {tuple(member.axis.split(":")[1:]) for member in group.members if member.module == name}
    return {
        size
        for parameter, tensor in layer.named_parameters(recurse=False)
        for dim, size in enumerate(tensor.shape)
        if (parameter, str(dim)) not in own
    }


def _seen_by_module(grids: Grids) -> dict[str, list[tuple[frozenset[int], frozenset[int]]]]:
    """For each module, the units in each grid and the numbers that it may be known by."""
    seen: dict[str, list[tuple[frozenset[int], frozenset[int]]]] = defaultdict(list)
    for name, grid in grids:
        found = frozenset(grid.ravel().tolist())
        seen[name].append((found, frozenset({len(found), *_products(grid.shape)})))
    return seen


def _products(sizes: Sequence[int]) -> Iterator[int]:
    for number in range(1, len(sizes) + 1):
        yield from map(math.prod, combinations(sizes, number))
