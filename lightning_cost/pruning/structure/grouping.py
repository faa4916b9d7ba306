"""Channel groups as data: which positions of which layers must go together."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lightning_cost.cost.plain_data import count, entries, items, text
from lightning_cost.pruning.structure.layers import Axis, is_consuming


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One axis of one layer that a channel group runs through.

    Args:
        module: Name of the layer in ``named_modules``.
        axis: ``"out"`` for what the layer produces, ``"in"`` for what it consumes; along with the
            parameter and its dimension where the layer is of no known kind.
        index: For each channel of the group, its positions along the axis; all channels have
            equally many (several where a feature map is flattened).
    """

    module: str
    axis: Axis
    index: tuple[tuple[int, ...], ...]

    @property
    def positions_per_channel(self) -> int:
        """Positions along the axis that one channel takes."""
        return len(self.index[0])

    def positions(self, channels: Sequence[int]) -> list[int]:
        """Positions along the axis of the given channels."""
        return [position for channel in channels for position in self.index[channel]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Follower:
    """An attribute of a module by which its code knows how many channels a group has.

    Args:
        module: Name of the module.
        attribute: Name of the attribute.
        size: What it is in the dense network.
        per_channel: By how much it falls when a channel goes.
    """

    module: str
    attribute: str
    size: int
    per_channel: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ChannelGroup:
    """Output channels that must go together, and everything that goes with them.

    Args:
        name: Name of one of the layers that produce the channels.
        num_channels: Channels in the group.
        members: Axes that the channels run through.
        followers: Attributes that are adjusted when channels go.
    """

    name: str
    num_channels: int
    members: tuple[Member, ...]
    followers: tuple[Follower, ...] = ()

    @property
    def block(self) -> int:
        """Positions of a layer that one channel takes at least: the width of a head, say."""
        return math.gcd(*(member.positions_per_channel for member in self.members))

    @property
    def producers(self) -> tuple[str, ...]:
        """Names of the layers that produce, or pass on, these channels."""
        made = (member.module for member in self.members if not is_consuming(member.axis))
        return tuple(dict.fromkeys(made))


@dataclass(frozen=True, kw_only=True, slots=True)
class Grouping:
    """All channel groups of a network.

    Args:
        groups: Groups whose channels may be removed.
        left_alone: Layers whose output channels all stay, each with the reason.
        sizes: Size of every axis that a group runs through, by layer and axis.
    """

    groups: tuple[ChannelGroup, ...]
    left_alone: Mapping[str, str]
    sizes: Mapping[str, Mapping[Axis, int]]

    @property
    def num_channels(self) -> dict[str, int]:
        """Channels of each group, by name."""
        return {group.name: group.num_channels for group in self.groups}

    def without(self, names: Sequence[str], reason: str) -> "Grouping":
        """The same grouping with some groups left alone."""
        gone = [group for group in self.groups if group.name in names]
        modules = dict.fromkeys([module for group in gone for module in group.producers], reason)
        return Grouping(
            groups=tuple(group for group in self.groups if group.name not in names),
            left_alone={**modules, **self.left_alone},
            sizes=self.sizes,
        )

    def to_dict(self) -> dict[str, Any]:
        """The grouping as JSON-compatible data."""
        return {
            "groups": [
                {
                    "name": group.name,
                    "num_channels": group.num_channels,
                    "members": [
                        {
                            "module": member.module,
                            "axis": member.axis,
                            "index": [list(positions) for positions in member.index],
                        }
                        for member in group.members
                    ],
                    "followers": [asdict(follower) for follower in group.followers],
                }
                for group in self.groups
            ],
            "left_alone": dict(self.left_alone),
            "sizes": {module: dict(axes) for module, axes in self.sizes.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Grouping":
        """The inverse of :meth:`to_dict`.

        Raises:
            ValueError: If an entry is of another type than was written, or a group has channels
                that its layers do not have.
        """
        sizes = {
            module: {axis: count(size, axis) for axis, size in entries(axes, module).items()}
            for module, axes in entries(data["sizes"], "sizes").items()
        }
        return cls(
            groups=tuple(_group_from(group, sizes) for group in items(data["groups"], "groups")),
            left_alone={
                name: text(reason, name)
                for name, reason in entries(data["left_alone"], "left_alone").items()
            },
            sizes=sizes,
        )


def _group_from(data: Mapping[str, Any], sizes: Mapping[str, Mapping[Axis, int]]) -> ChannelGroup:
    group = ChannelGroup(
        name=text(data["name"], "name"),
        num_channels=count(data["num_channels"], "num_channels"),
        members=tuple(
            Member(
                module=text(member["module"], "module"),
                axis=text(member["axis"], "axis"),
                index=tuple(
                    tuple(items(each, "index")) for each in items(member["index"], "index")
                ),
            )
            for member in items(data["members"], "members")
        ),
        followers=tuple(Follower(**each) for each in items(data.get("followers", ()), "followers")),
    )
    for member in group.members:
        size = sizes[member.module][member.axis]
        positions = [position for channel in member.index for position in channel]
        widths = {len(channel) for channel in member.index}
        is_whole = all(type(position) is int and 0 <= position < size for position in positions)
        if len(member.index) != group.num_channels or len(widths) != 1 or not is_whole:
            raise ValueError(
                f"index must place each of the {group.num_channels} channels of {group.name!r} "
                f"within the {size} of {member.module!r}, got {len(member.index)} places"
            )
    for follower in group.followers:
        text(follower.module, "module")
        text(follower.attribute, "attribute")
        count(follower.size, "size")
        count(follower.per_channel, "per_channel")
    return group
