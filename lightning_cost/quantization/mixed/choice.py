"""The least harmful choice of one scheme for each layer within limits."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from lightning_cost.cost.resource import Resource
from lightning_cost.quantization.schemes.scheme import Scheme

_MARGIN = 1e-6
"""How far the solver may be off, as a share of a limit."""


class OutOfReachError(ValueError):
    """No choice keeps the limits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """One scheme for one layer.

    Args:
        scheme: The grid of its weight.
        harm: What it does to the network's output, see ``rounding_harms``.
        costs: Of the layer in this scheme, in the units of the resources.
    """

    scheme: Scheme
    harm: float
    costs: Mapping[Resource, float]


def least_harm(
    options: Mapping[str, Sequence[Option]], limits: Mapping[Resource, float]
) -> dict[str, Option]:
    """The option for each layer whose harms have the least sum within ``limits``.

    An integer program with one variable for each option, solved exactly (HiGHS, by SciPy).

    Args:
        options: Of each layer, by name.
        limits: On the sum of the costs, by resource; what is not in the layers is taken off.

    Raises:
        OutOfReachError: If the limits leave no choice; names the nearest that can be reached.
        ValueError: If all options of a layer harm without bounds.

    >>> from lightning_cost.quantization.schemes.uniform import LowBit
    >>> def layer(size, harms):
    ...     return [Option(scheme=LowBit(bits=bits), harm=harm,
    ...                    costs={Resource.size_bytes: size * bits / 8})
    ...             for bits, harm in zip((8, 4), harms)]
    >>> options = {"a": layer(64, (0.0, 0.5)), "b": layer(64, (0.0, 0.1))}
    >>> chosen = least_harm(options, {Resource.size_bytes: 100})
    >>> {name: option.scheme.bits for name, option in chosen.items()}
    {'a': 8, 'b': 4}
    """
    for name, given in options.items():
        if not any(math.isfinite(option.harm) for option in given):
            raise ValueError(
                f"a layer must have a scheme that leaves the output finite, got none for {name!r}; "
                "give it one with more bits"
            )
    _require_reachable(options, limits)
    options = {name: _undominated(given) for name, given in options.items()}
    for tightening in (0.0, *(_MARGIN * 10**power for power in range(4))):
        inside = {resource: limit * (1 - tightening) for resource, limit in limits.items()}
        chosen = _solved(options, inside)
        if chosen is not None and not _excess(list(chosen.values()), limits):
            return chosen
    raise OutOfReachError(_out_of_reach(options, limits))


def total_cost(options: Sequence[Option], resource: Resource) -> float:
    """The sum of the options' costs."""
    return math.fsum(option.costs[resource] for option in options)


def fewest_costs(options: Mapping[str, Sequence[Option]], resource: Resource) -> float:
    """The least sum of costs that any choice has."""
    return math.fsum(min(option.costs[resource] for option in given) for given in options.values())


def _undominated(options: Sequence[Option]) -> list[Option]:
    """Those that no other option beats or equals in harm and in every cost; of equals the first."""

    def is_beaten(place: int, option: Option) -> bool:
        own = (option.harm, *option.costs.values())
        for other_place, other in enumerate(options):
            others = (other.harm, *(other.costs[resource] for resource in option.costs))
            is_at_most = all(one <= two for one, two in zip(others, own, strict=True))
            if is_at_most and (others != own or other_place < place):
                return True
        return False

    return [option for place, option in enumerate(options) if not is_beaten(place, option)]


def _solved(
    options: Mapping[str, Sequence[Option]], limits: Mapping[Resource, float]
) -> dict[str, Option] | None:
    flat = [(name, option) for name, given in options.items() for option in given]
    if not flat:
        return {}
    harms = np.array([option.harm for _, option in flat])
    is_possible = np.isfinite(harms)
    largest = float(harms[is_possible].max(initial=0.0)) or 1.0
    objective = np.where(is_possible, harms, 0.0) / largest
    rows, lows, highs = [], [], []
    for name in options:
        rows.append([1.0 if owner == name else 0.0 for owner, _ in flat])
        lows.append(1.0)
        highs.append(1.0)
    for resource, limit in limits.items():
        costs = np.array([option.costs[resource] for _, option in flat])
        scale = max(float(costs.max()), abs(limit)) or 1.0
        rows.append((costs / scale).tolist())
        lows.append(-np.inf)
        highs.append(limit / scale)
    solved = milp(
        objective,
        integrality=np.ones(len(flat)),
        bounds=Bounds(np.zeros(len(flat)), is_possible.astype(float)),
        constraints=LinearConstraint(np.array(rows), np.array(lows), np.array(highs)),
        options={"mip_rel_gap": 0.0},
    )
    if solved.x is None:
        return None
    return {
        name: option for (name, option), share in zip(flat, solved.x, strict=True) if share > 0.5
    }


def _excess(chosen: Sequence[Option], limits: Mapping[Resource, float]) -> bool:
    return any(total_cost(chosen, resource) > limit for resource, limit in limits.items())


def _require_reachable(
    options: Mapping[str, Sequence[Option]], limits: Mapping[Resource, float]
) -> None:
    if any(fewest_costs(options, resource) > limit for resource, limit in limits.items()):
        raise OutOfReachError(_out_of_reach(options, limits))


def _out_of_reach(options: Mapping[str, Sequence[Option]], limits: Mapping[Resource, float]) -> str:
    told = "; ".join(
        f"{resource} <= {limit:g} {resource.unit} for the quantised layers (nearest reachable: "
        f"{fewest_costs(options, resource):g} {resource.unit})"
        for resource, limit in limits.items()
    )
    return (
        f"limits must leave room for the cheapest scheme of each layer, got {told}; raise the "
        "limit, or let layers have fewer bits"
    )
