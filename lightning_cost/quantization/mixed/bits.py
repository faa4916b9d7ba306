"""Which scheme each layer has, what else it could have had, and what that would have cost."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from lightning_cost.cost.plain_data import amounts, entries, items
from lightning_cost.cost.resource import Resource
from lightning_cost.quantization.mixed.choice import (
    Option,
    fewest_costs,
    least_harm,
    total_cost,
)
from lightning_cost.quantization.mixed.harm import rounding_harms
from lightning_cost.quantization.mixed.prices import Prices
from lightning_cost.quantization.schemes.registry import label_of, scheme_from_dict
from lightning_cost.quantization.schemes.scheme import Scheme


@dataclass(frozen=True, kw_only=True, slots=True)
class ChosenBits:
    """A scheme for each layer; turns to and from plain data.

    Args:
        schemes: By the layer's name.
        options: What each layer could have had, the chosen one among it.
        costs: Of the whole network so, by resource.
        limits: That it was chosen for.
    """

    schemes: Mapping[str, Scheme]
    options: Mapping[str, Sequence[Option]]
    costs: Mapping[Resource, float]
    limits: Mapping[Resource, float]

    @property
    def is_within(self) -> bool:
        """Whether the costs keep the limits."""
        return all(self.costs[resource] <= limit for resource, limit in self.limits.items())

    @property
    def harm(self) -> float:
        """The sum over the layers."""
        return sum(
            option.harm
            for name, scheme in self.schemes.items()
            for option in self.options[name]
            if option.scheme == scheme
        )

    def described(self) -> dict[str, Any]:
        """Layers by scheme, the cost of the network and the harm, as plain data."""
        return {
            "schemes": dict(Counter(label_of(scheme) for scheme in self.schemes.values())),
            "costs": _named(self.costs),
            "harm": self.harm,
        }

    def to_dict(self) -> dict[str, Any]:
        """As JSON-compatible data."""
        return {
            "schemes": {name: scheme.to_dict() for name, scheme in self.schemes.items()},
            "options": {
                name: [
                    {
                        "scheme": option.scheme.to_dict(),
                        "harm": option.harm,
                        "costs": _named(option.costs),
                    }
                    for option in options
                ]
                for name, options in self.options.items()
            },
            "costs": _named(self.costs),
            "limits": _named(self.limits),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "ChosenBits":
        """The inverse of :meth:`to_dict`.

        Raises:
            ValueError: If an entry is of another type than was written, or a layer has a scheme
                that it could not have had.
        """
        chosen = cls(
            schemes={
                name: scheme_from_dict(each)
                for name, each in entries(data["schemes"], "schemes").items()
            },
            options={
                name: tuple(
                    Option(
                        scheme=scheme_from_dict(each["scheme"]),
                        harm=_harm_in(each),
                        costs=_by_resource(amounts(each["costs"], "costs")),
                    )
                    for each in items(options, name)
                )
                for name, options in entries(data["options"], "options").items()
            },
            costs=_by_resource(amounts(data["costs"], "costs")),
            limits=_by_resource(amounts(data["limits"], "limits")),
        )
        for name, scheme in chosen.schemes.items():
            if scheme not in [option.scheme for option in chosen.options[name]]:
                raise ValueError(f"{name!r} must have one of its options, got {scheme!r:.60}")
        if not chosen.costs.keys() >= chosen.limits.keys():
            raise ValueError(f"costs must be of what is limited, got {list(chosen.costs)!r:.60}")
        return chosen


@dataclass(frozen=True, kw_only=True, slots=True)
class BitOptions:
    """What each layer of a network can have.

    Args:
        options: Of each layer, by name.
        rest: Costs that no scheme changes, by resource.
    """

    options: Mapping[str, Sequence[Option]]
    rest: Mapping[Resource, float]

    @classmethod
    def of(
        cls,
        network: nn.Module,
        schemes: Mapping[str, Sequence[Scheme]],
        prices: Prices,
        forward: Callable[[nn.Module], Any],
    ) -> "BitOptions":
        """Measure what each scheme does to the output of ``network``, see ``rounding_harms``."""
        harms = rounding_harms(network, schemes, forward)
        options = {
            name: tuple(
                Option(scheme=scheme, harm=harm, costs=costs)
                for scheme, harm, costs in zip(given, harms[name], prices.layers[name], strict=True)
            )
            for name, given in schemes.items()
        }
        return cls(options=options, rest=prices.rest)

    def within(self, limits: Mapping[Resource, float]) -> ChosenBits:
        """The least harmful choice that keeps ``limits`` on the whole network.

        Raises:
            OutOfReachError: If there is none.
        """
        left = {resource: limit - self.rest[resource] for resource, limit in limits.items()}
        return self._chosen(least_harm(self.options, left), limits)

    def cheapest(self, limits: Mapping[Resource, float]) -> ChosenBits:
        """The choice of the fewest bits everywhere, for limits that none keeps."""
        chosen = {
            name: min(given, key=lambda option: (option.scheme.weight_bits, option.harm))
            for name, given in self.options.items()
        }
        return self._chosen(chosen, limits)

    def spread(self, resource: Resource, num_choices: int) -> list[ChosenBits]:
        """Choices from the fewest to the most of ``resource``, each the least harmful of its cost.

        At equal distances; fewer than ``num_choices`` where some are the same.
        """
        low = fewest_costs(self.options, resource)
        high = sum(
            max(option.costs[resource] for option in given) for given in self.options.values()
        )
        found: list[ChosenBits] = []
        for share in np.linspace(0, 1, num_choices).tolist():
            # of the layers alone: with the rest added and taken off again, rounding may leave less
            # than the cheapest choice takes
            left = low + share * (high - low)
            limit = {resource: self.rest[resource] + left}
            chosen = self._chosen(least_harm(self.options, {resource: left}), limit)
            if all(chosen.schemes != other.schemes for other in found):
                found.append(chosen)
        return found

    def _chosen(self, chosen: Mapping[str, Option], limits: Mapping[Resource, float]) -> ChosenBits:
        return ChosenBits(
            schemes={name: option.scheme for name, option in chosen.items()},
            options=self.options,
            costs={
                resource: rest + total_cost(list(chosen.values()), resource)
                for resource, rest in self.rest.items()
            },
            limits=dict(limits),
        )


def _named(costs: Mapping[Resource, float]) -> dict[str, float]:
    return {resource.value: value for resource, value in costs.items()}


def _harm_in(option: Mapping[str, Any]) -> float:
    harm: Any = option["harm"]
    if not isinstance(harm, (int, float)):  # infinite too
        raise ValueError(f"harm must be a number, got {harm!r:.60}")
    return harm


def _by_resource(costs: Mapping[str, float]) -> dict[Resource, float]:
    return {Resource(name): value for name, value in costs.items()}
