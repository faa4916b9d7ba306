"""Finding the channel groups of a network."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from torch import nn

from lightning_cost.cost.forward import Example
from lightning_cost.pruning.dependency import CoupledAxis, Coupling, completion_order, couplings
from lightning_cost.pruning.grouping import ChannelGroup, Grouping, Member
from lightning_cost.pruning.layers import Axis, axes_of
from lightning_cost.pruning.verification import faulty_groups


class UntraceableNetworkError(ValueError):
    """The dependency graph of a network could not be made."""


def channel_groups(
    network: nn.Module, example: Example, *, exclude: Sequence[str] = ()
) -> Grouping:
    """The groups of output channels of ``network`` that can be removed together.

    What the dependency graph says is verified: removing half of each group must give the same
    outputs as silencing that half. The network is left as it was found.

    Args:
        network: The dense network.
        example: What one forward pass takes.
        exclude: Names of modules whose output channels, and those of their children, all stay.

    Returns:
        The groups, in the order of ``named_modules``, and the layers that are left alone.

    Raises:
        ValueError: If ``exclude`` names a module that the network does not have.
        UntraceableNetworkError: If the graph cannot be made; names the module to exclude.
    """
    modules = dict(network.named_modules())
    for name in exclude:
        if name not in modules:
            raise ValueError(
                f"exclude must name modules of the network, got {name!r}; "
                f"it has {', '.join(map(repr, list(modules)[1:12]))}, ..."
            )
    found = _traced(network, example, exclude)
    refusals = {
        coupling.root: reason
        for coupling in found
        if (reason := _refusal(coupling, network, exclude)) is not None
    }
    usable = [coupling for coupling in found if coupling.root not in refusals]
    members = {coupling.root: _members(coupling) for coupling in usable}
    refusals |= dict.fromkeys(_overlapping(members), "its channels are coupled in several ways")
    left_alone = {
        axis.module: refusals[coupling.root]
        for coupling in found
        if coupling.root in refusals
        for axis in coupling.axes
        if axis.axis == "out" and axis.module is not None
    }
    groups = _named_groups(
        network,
        [
            uniform
            for coupling in usable
            if coupling.root not in refusals
            for uniform in _uniform_groups(members[coupling.root])
        ],
    )
    named = {member.module for group in groups for member in group.members}
    for name, module in modules.items():
        if name not in named and name not in left_alone and "out" in axes_of(module):
            left_alone[name] = "it is not on a traced way to the output"
    grouping = Grouping(groups=groups, left_alone=left_alone, sizes=_sizes(network, groups))
    faulty = faulty_groups(network, example, grouping)
    return grouping.without(faulty, "more depends on its channels than the layers that were traced")


def _traced(network: nn.Module, example: Example, exclude: Sequence[str]) -> list[Coupling]:
    try:
        return couplings(network, example)
    except Exception as error:  # whatever a third-party tracer raises on an unknown architecture
        modules = dict(network.named_modules())
        cut = [modules[name] for name in exclude]
        order = completion_order(network, example)  # raises what the network itself raises
        if cut and _is_traceable(network, example, cut):
            return couplings(network, example, cut=cut)
        culprit = _culprit(network, example, order)
        remedy = (
            f"leave it as it is with exclude=[{culprit!r}]"
            if culprit
            else "prune a submodule of it instead, with network='PATH'"
        )
        raise UntraceableNetworkError(
            "network must be traceable by the dependency graph, got "
            f"{type(error).__name__} ({error}) at {culprit or type(network).__name__!r}; {remedy}"
        ) from error


def _culprit(network: nn.Module, example: Example, order: Sequence[nn.Module]) -> str:
    """The innermost module after which, but not before which, the graph can be made."""
    parent, path = network, ""
    while True:
        children = [
            (name, child)
            for child in order
            for name, own in parent.named_children()
            if own is child
        ]
        for name, child in children:
            if _is_traceable(network, example, [child]):
                parent, path = child, f"{path}.{name}".lstrip(".")
                break
        else:
            return path
        if not list(parent.children()):
            return path


def _is_traceable(network: nn.Module, example: Example, cut: Sequence[nn.Module]) -> bool:
    try:
        couplings(network, example, cut=cut)
    except Exception:  # as above: the answer is no, whatever the reason
        return False
    return True


def _refusal(coupling: Coupling, network: nn.Module, exclude: Sequence[str]) -> str | None:
    """Why the channels of a coupling have to stay, or ``None``."""
    for axis in coupling.axes:
        if axis.module is None:
            return f"its channels reach {axis.described}"
        layer = network.get_submodule(axis.module)
        if axis.axis not in axes_of(layer):
            return f"its channels reach {axis.module} ({_described(layer)})"
        if hasattr(layer, "parametrizations") or _is_tied(network, axis.module):
            return f"the weight of {axis.module} is parametrised or shared"
        for name in exclude:
            if axis.axis == "out" and f"{axis.module}.".startswith(f"{name}."):
                return f"{name} is excluded"
    if all(axis.axis == "out" for axis in coupling.axes):
        return "its channels are the network's output"
    return None


def _described(layer: nn.Module) -> str:
    groups = getattr(layer, "groups", 1)
    return f"{type(layer).__name__} with groups={groups}" if groups > 1 else type(layer).__name__


def _is_tied(network: nn.Module, name: str) -> bool:
    own = set(map(id, network.get_submodule(name).parameters(recurse=False)))
    others = (
        parameter
        for module_name, module in network.named_modules()
        if module_name != name
        for parameter in module.parameters(recurse=False)
    )
    return any(id(parameter) in own for parameter in others)


def _members(coupling: Coupling) -> list[tuple[CoupledAxis, list[list[int]]]]:
    members = []
    for axis in coupling.axes:
        index: list[list[int]] = [[] for _ in range(coupling.num_channels)]
        for channel, position in axis.positions:
            index[channel].append(position)
        members.append((axis, index))
    return members


def _overlapping(members: Mapping[str, list[tuple[CoupledAxis, list[list[int]]]]]) -> list[str]:
    """Roots of couplings that claim a position which another one, or they themselves, claim."""
    claims: dict[tuple[str | None, Axis, int], list[str]] = defaultdict(list)
    for root, axes in members.items():
        for axis, index in axes:
            for positions in index:
                for position in positions:
                    claims[axis.module, axis.axis, position].append(root)
    return sorted({root for roots in claims.values() if len(roots) > 1 for root in roots})


def _uniform_groups(
    members: Sequence[tuple[CoupledAxis, list[list[int]]]],
) -> list[tuple[Member, ...]]:
    """The members of one group for each set of channels that run through the same axes.

    After an addition to a concatenation, say, some channels come from one branch and some from
    the other; widths alone tell the cost of a network only if these are groups of their own.
    """
    signatures: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for channel in range(len(members[0][1])):
        signatures[tuple(len(index[channel]) for _, index in members)].append(channel)
    return [
        tuple(
            Member(
                module=str(axis.module),
                axis=axis.axis,
                index=tuple(tuple(sorted(index[channel])) for channel in channels),
            )
            for axis, index in members
            if index[channels[0]]
        )
        for channels in signatures.values()
    ]


def _named_groups(
    network: nn.Module, found: Sequence[tuple[Member, ...]]
) -> tuple[ChannelGroup, ...]:
    """Groups named after the first convolution or linear layer that makes their channels."""
    order = {name: place for place, (name, _) in enumerate(network.named_modules())}
    makers = {name for name, module in network.named_modules() if "in" in axes_of(module)}
    groups: dict[str, ChannelGroup] = {}
    for members in found:
        producers = [member.module for member in members if member.axis == "out"]
        name = min(producers, key=lambda module: (module not in makers, order[module]))
        taken = sum(other.partition("#")[0] == name for other in groups)
        name = f"{name}#{taken + 1}" if taken else name
        groups[name] = ChannelGroup(
            name=name,
            num_channels=len(members[0].index),
            members=tuple(sorted(members, key=lambda member: order[member.module])),
        )
    return tuple(sorted(groups.values(), key=lambda group: order[group.name.partition("#")[0]]))


def _sizes(network: nn.Module, groups: Sequence[ChannelGroup]) -> dict[str, dict[Axis, int]]:
    sizes: dict[str, dict[Axis, int]] = {}
    for group in groups:
        for member in group.members:
            axes = axes_of(network.get_submodule(member.module))
            sizes.setdefault(member.module, {})[member.axis] = axes[member.axis].size
    return sizes
