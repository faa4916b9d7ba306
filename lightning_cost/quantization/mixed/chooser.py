"""What a fit does to give each layer its scheme: the choices, the limits, the decision."""

import glob
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from lightning_cost.budget.model import ModelBudget
from lightning_cost.cost.duplicate import duplicated
from lightning_cost.cost.forward import run_forward
from lightning_cost.cost.measurement import Cost
from lightning_cost.cost.resource import Resource
from lightning_cost.hardware.device import Hardware
from lightning_cost.monitor.measure import measure
from lightning_cost.network.attention import open_attention
from lightning_cost.network.batch import first_samples
from lightning_cost.network.deploy import deployed_copy
from lightning_cost.network.lineage import apply_change
from lightning_cost.quantization.calibrate import calibrate
from lightning_cost.quantization.mixed.bits import BitOptions, ChosenBits
from lightning_cost.quantization.mixed.choice import OutOfReachError
from lightning_cost.quantization.mixed.harm import with_rounded_weights
from lightning_cost.quantization.mixed.prices import follows_bits, prices_of
from lightning_cost.quantization.plan import plan_quantization
from lightning_cost.quantization.prepare import PrepareQuantization
from lightning_cost.quantization.rules import QuantizationRules
from lightning_cost.quantization.schemes.assignment import assign_schemes, with_reduced_range
from lightning_cost.quantization.schemes.flightnn import FLightNN
from lightning_cost.quantization.schemes.registry import get_scheme
from lightning_cost.quantization.schemes.scheme import Scheme

NUM_SAMPLES = 128
"""Samples that show what rounding does; errors of outputs, unlike accuracies, need few."""
NUM_SPLITS = 5
"""Ways to share a budget between channels and bits that are tried."""


class BitChooser:
    """Gives each layer one of several schemes so that a budget is kept.

    Args:
        choices: What a layer may have. The first and the last layer, and those that
            ``rules.overrides`` name, have what they would have under each of them.
        rules: Which layers are quantised how.
        budget: Limits on the deployed network; those that bits have a part in count.
        hardware: Whose energy model prices a limit on energy.

    Attributes:
        chosen: The decision; ``None`` before it, when the fewest bits are taken everywhere.

    Raises:
        ValueError: If there are fewer than two choices, one of them has a budget of its own in
            bytes, or there is no limit that bits have a part in.
    """

    def __init__(
        self,
        choices: Sequence[Scheme],
        rules: QuantizationRules,
        *,
        budget: ModelBudget | None,
        hardware: Hardware | None,
    ) -> None:
        if len(choices) < 2:
            raise ValueError(
                f"schemes to choose from must be two or more, got {len(choices)}; give a single "
                "scheme by itself, not in a list"
            )
        for each in choices:
            if isinstance(each, FLightNN) and each.max_bytes is not None:
                raise ValueError(
                    "max_bytes must be left out of a scheme that layers choose among, as how many "
                    f"bytes it has follows from the choice, got {each.max_bytes}; give mean_terms"
                )
        resources = [] if budget is None else budget.resources
        self.resources = [each for each in resources if follows_bits(each, hardware)]
        if budget is None or not self.resources:
            limited = ", ".join(map(str, resources)) or "nothing"
            raise ValueError(
                "budget must limit what bits have a part in where each layer gets one of several "
                "schemes: size_bytes, or energy_mj on hardware with an energy_model, got limits "
                f"on {limited}, which every scheme keeps alike; set budget.size_bytes, or give "
                "one scheme"
            )
        self.choices = tuple(choices)
        self.chosen: ChosenBits | None = None
        self._rules = rules
        self._budget = budget
        self._hardware = hardware

    @property
    def fewest(self) -> Scheme:
        """The choice with the fewest bits."""
        return min(self.choices, key=lambda scheme: scheme.weight_bits)

    def find_limits(
        self, network: nn.Module, example: Any, dense: Cost | None, *, is_alone: bool
    ) -> dict[Resource, float]:
        """The limits that bits have a part in, in the units of their resources.

        Args:
            network: Dense; left as it is.
            example: What one forward pass takes.
            dense: What it costs; ``None`` to measure it.
            is_alone: Whether nothing but bits makes the network smaller.

        Raises:
            ValueError: If bits alone cannot keep them; names the nearest that they can.
        """
        if dense is None:
            dense = self._measured(network, example)
        limits = self._budget.limits(dense, only=self.resources)
        if is_alone:
            change = self._planned(network, example, None, reduced_range=False)
            fewest = self._measured(self._deployed(network, example, change), example)
            for resource, limit in limits.items():
                if fewest[resource].value > limit:
                    raise ValueError(
                        f"budget must be reachable by the schemes to choose from, got {resource} "
                        f"<= {limit:g} {resource.unit} (nearest reachable: "
                        f"{fewest[resource].value:g} {resource.unit}); raise the limit, allow "
                        "fewer bits, or remove channels too"
                    )
        return limits

    def choose(
        self,
        network: nn.Module,
        example: Any,
        batches: Sequence[Any],
        limits: Mapping[Resource, float],
        *,
        reduced_range: bool,
    ) -> ChosenBits:
        """The least harmful schemes within ``limits``; the fewest bits where none are.

        Args:
            network: As it is now, in floating point; left as it is.
            example: What one forward pass takes.
            batches: The same of several samples; ``NUM_SAMPLES`` of them are looked at.
            limits: See :meth:`find_limits`.
            reduced_range: See ``plan_quantization``.
        """
        shown = first_samples(batches, NUM_SAMPLES)
        options = self.options(
            network, example, lambda each: run_forward(each, shown), reduced_range=reduced_range
        )
        try:
            return options.within(limits)
        except OutOfReachError:
            return options.cheapest(limits)

    def splits(
        self,
        network: nn.Module,
        example: Any,
        forward: Callable[[nn.Module], Any],
        *,
        reduced_range: bool,
    ) -> list[ChosenBits]:
        """Choices from the fewest bits to the most; arguments as of :meth:`options`."""
        options = self.options(network, example, forward, reduced_range=reduced_range)
        return options.spread(self.resources[0], NUM_SPLITS)

    def plan(self, network: nn.Module, example: Any, *, reduced_range: bool) -> PrepareQuantization:
        """The preparation of ``network`` with the chosen schemes, or with the fewest bits."""
        return self._planned(network, example, self.chosen, reduced_range=reduced_range)

    def options(
        self,
        network: nn.Module,
        example: Any,
        forward: Callable[[nn.Module], Any],
        *,
        reduced_range: bool,
    ) -> BitOptions:
        """What each layer of ``network``, in floating point, can have; nothing is changed.

        Args:
            network: Dense or pruned.
            example: What one forward pass takes.
            forward: Sends data through a network: its outputs show what rounding does.
            reduced_range: See ``plan_quantization``.

        Raises:
            ValueError: As ``plan_quantization`` and ``rounding_harms``.
        """
        change = self._planned(network, example, None, reduced_range=reduced_range)
        overrides = {pattern: get_scheme(each) for pattern, each in self._rules.overrides.items()}
        layers = list(change.schemes)
        schemes: dict[str, list[Scheme]] = {name: [] for name in layers}
        for choice in self.choices:
            for name, scheme in assign_schemes(layers, choice, overrides).items():
                each = with_reduced_range(scheme) if reduced_range else scheme
                if each not in schemes[name]:
                    schemes[name].append(each)
        prices = prices_of(
            self._deployed(network, example, change),
            example,
            schemes,
            resources=self.resources,
            hardware=self._hardware,
        )
        return BitOptions.of(_opened(network, change), schemes, prices, forward)

    def rounded(self, network: nn.Module, example: Any, chosen: ChosenBits) -> nn.Module:
        """A copy of ``network`` in floating point, its weights rounded as ``chosen`` says."""
        change = self._planned(network, example, None, reduced_range=False)
        return with_rounded_weights(_opened(network, change), chosen.schemes)

    def _planned(
        self,
        network: nn.Module,
        example: Any,
        chosen: ChosenBits | None,
        *,
        reduced_range: bool,
    ) -> PrepareQuantization:
        rules = self._rules
        if chosen is not None:
            # names, not patterns
            overrides = {glob.escape(name): scheme for name, scheme in chosen.schemes.items()}
            rules = replace(rules, overrides=overrides)
        return plan_quantization(network, example, self.fewest, rules, reduced_range=reduced_range)

    def _measured(self, network: nn.Module, example: Any) -> Cost:
        return measure(network, example, hardware=self._hardware, resources=self.resources)

    def _deployed(self, network: nn.Module, example: Any, change: PrepareQuantization) -> nn.Module:
        prepared = duplicated(network)
        apply_change(prepared, change)
        calibrate(prepared, [example])
        return deployed_copy(prepared, example)


def _opened(network: nn.Module, change: PrepareQuantization) -> nn.Module:
    """A copy of ``network`` with the layers that ``change`` names, in floating point."""
    opened = duplicated(network)
    for name, is_self in change.attentions.items():
        open_attention(opened, name, is_self=is_self)
    return opened
