"""Which channels stay, as data, and the dense network with the others silenced."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from lightning_cost.cost.duplicate import duplicated
from lightning_cost.cost.plain_data import count, entries, items
from lightning_cost.pruning.structure.grouping import Grouping
from lightning_cost.pruning.structure.layers import Axis, LayerAxis, axis_of, input_dim


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The channels of each group that stay, in the numbering of the dense network.

    Args:
        kept: Channels that stay, ascending, by group name; never empty.
        num_channels: Channels of each group in the dense network.

    Raises:
        ValueError: If a group would keep nothing, or channels that it does not have.
    """

    kept: Mapping[str, tuple[int, ...]]
    num_channels: Mapping[str, int]

    def __post_init__(self) -> None:
        if set(self.kept) != set(self.num_channels):
            raise ValueError(
                "kept must name the groups of num_channels, got "
                f"{sorted(set(self.kept) ^ set(self.num_channels))} in one of them only; "
                "make plans with Plan.dense or a removal path"
            )
        for name, channels in self.kept.items():
            total = self.num_channels[name]
            is_ascending = all(a < b for a, b in pairwise(channels))
            if not channels or not is_ascending or channels[0] < 0 or channels[-1] >= total:
                raise ValueError(
                    f"kept must list, ascending, one or more of the {total} channels of group "
                    f"{name!r}, got {list(channels)}; use range({total}) to keep them all"
                )

    @classmethod
    def dense(cls, grouping: Grouping) -> "Plan":
        """The plan that keeps everything."""
        totals = grouping.num_channels
        return cls(
            kept={name: tuple(range(total)) for name, total in totals.items()},
            num_channels=totals,
        )

    @property
    def widths(self) -> dict[str, int]:
        """Number of channels that stay, by group."""
        return {name: len(channels) for name, channels in self.kept.items()}

    @property
    def keep_ratio(self) -> float:
        """Channels that stay / channels of the dense network, over all groups; 1.0 for none."""
        total = sum(self.num_channels.values())
        return sum(self.widths.values()) / total if total else 1.0

    def is_within(self, other: "Plan") -> bool:
        """Whether ``other`` keeps everything that this plan keeps."""
        return all(set(channels) <= set(other.kept[name]) for name, channels in self.kept.items())

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON-compatible data."""
        return {
            "kept": {name: list(channels) for name, channels in self.kept.items()},
            "num_channels": dict(self.num_channels),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Plan":
        """The inverse of :meth:`to_dict`.

        Raises:
            ValueError: If an entry is of another type than was written, or the plan makes no sense.
        """
        return cls(
            kept={
                name: tuple(count(channel, "a channel") for channel in items(channels, name))
                for name, channels in entries(data["kept"], "kept").items()
            },
            num_channels={
                name: count(total, name)
                for name, total in entries(data["num_channels"], "num_channels").items()
            },
        )


def removed_positions(grouping: Grouping, plan: Plan) -> dict[tuple[str, Axis], list[int]]:
    """Positions that ``plan`` removes from the dense network, by layer and axis.

    Raises:
        ValueError: If the plan is not one for these groups.
    """
    if dict(plan.num_channels) != grouping.num_channels:
        raise ValueError(
            "plan must be made for the groups of this network, got one for "
            f"{sum(plan.num_channels.values())} channels in {len(plan.num_channels)} groups "
            f"instead of {sum(grouping.num_channels.values())} in {len(grouping.groups)}; "
            "make it from the same grouping"
        )
    removed: dict[tuple[str, Axis], list[int]] = defaultdict(list)
    for group in grouping.groups:
        kept = set(plan.kept[group.name])
        gone = [channel for channel in range(group.num_channels) if channel not in kept]
        if gone:
            for member in group.members:
                removed[member.module, member.axis] += member.positions(gone)
    return dict(removed)


def sharing_copy(network: nn.Module) -> nn.Module:
    """A copy of the module tree with its own buffers, and the same parameters."""
    return duplicated(network, {id(parameter): parameter for parameter in network.parameters()})


def masked(network: nn.Module, grouping: Grouping, plan: Plan) -> nn.Module:
    """A dense copy of ``network`` whose removed channels are zero wherever they are consumed.

    Its output is the reference for surgery: in evaluation mode the operated network gives the
    same. Channels that no layer consumes, as they are multiplied with each other, are zero where
    they are made. The copy shares its parameters with ``network``, but for those in no known kind
    of layer, which have zeros instead.
    """
    silenced = sharing_copy(network)
    consumed = {
        group.name for group in grouping.groups if any(m.axis == "in" for m in group.members)
    }
    made = {
        (member.module, member.axis)
        for group in grouping.groups
        if group.name not in consumed
        for member in group.members
    }
    for (name, axis), positions in removed_positions(grouping, plan).items():
        layer = silenced.get_submodule(name)
        if axis == "in":
            layer.register_forward_pre_hook(_silence(positions, input_dim(layer)))
        elif ":" in axis:
            _zero(layer, axis_of(layer, axis), positions)
        elif (name, axis) in made:
            layer.register_forward_hook(_silence_made(positions, input_dim(layer)))
    return silenced


def _silence(positions: list[int], dim: int) -> Callable[[nn.Module, tuple[Tensor, ...]], Any]:
    def hook(layer: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        index = torch.tensor(positions, device=args[0].device)
        return (args[0].index_fill(dim, index, 0.0), *args[1:])

    return hook


def _silence_made(positions: list[int], dim: int) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    def hook(layer: nn.Module, args: Any, output: Tensor) -> Tensor:
        return output.index_fill(dim, torch.tensor(positions, device=output.device), 0.0)

    return hook


@torch.no_grad()
def _zero(layer: nn.Module, axis: LayerAxis | None, positions: list[int]) -> None:
    assert axis is not None
    for name, dim in axis.tensors.items():
        old: Tensor = getattr(layer, name)
        index = torch.tensor(positions, device=old.device)
        new = old.detach().index_fill(dim, index, 0.0)
        setattr(layer, name, nn.Parameter(new) if isinstance(old, nn.Parameter) else new)
