"""What a run's network will cost, and whether it can keep its budget, before it is trained."""

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from lightning_cost.cost.plain_data import UNREADABLE, amount, amounts, entries, text
from lightning_cost.cost.resource import Resource
from lightning_cost.cost.shape_only import ShapeOnly
from lightning_cost.monitor.measure import measure, measure_structure
from lightning_cost.recipe.config import RunConfig
from lightning_cost.recipe.data import first_images
from lightning_cost.recipe.smallest import smallest_cost
from lightning_cost.report.quantities import quantity

PRICES_NAME = "prices.jsonl"
STRUCTURAL = ("model", "compress", "hardware", "runtime", "budget", "ranking", "data")
"""The parts of a configuration that a network's cost and limits follow from."""

BuildData: TypeAlias = Callable[[RunConfig], Any]
"""The LightningDataModule of a configuration."""
BuildNetwork: TypeAlias = Callable[[RunConfig, Any], nn.Module]
"""The network of a configuration, for its data."""
ExampleOf: TypeAlias = Callable[[RunConfig, Any], Tensor]
"""One image [1, C, H, W] of the data of a configuration."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What is known of a configuration's cost beforehand.

    Args:
        predicted: Least cost that its network can be brought to, by resource, where limited.
        limits: In the units of their resources.
    """

    predicted: Mapping[str, float] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Verdict":
        """From plain data.

        Raises:
            ValueError: If an entry is of another type than was written.

        >>> Verdict.from_dict({"predicted": {"macs": 5.0}, "limits": {"macs": 4.0}}).excess
        0.25
        """
        known = entries(data, "verdict")
        limits = amounts(known["limits"], "limits")
        predicted = {
            name: cost if cost == math.inf else amount(cost, name)
            for name, cost in entries(known["predicted"], "predicted").items()
        }
        if not predicted.keys() >= limits.keys() or not all(limits.values()):
            raise ValueError(f"limits must be > 0 and of what is predicted, got {limits!r:.60}")
        return cls(predicted=predicted, limits=limits)

    @property
    def constraints(self) -> dict[str, float]:
        """Cost / limit − 1 of each limited resource; at most 0 where the limit can be kept."""
        return {name: self.predicted[name] / limit - 1 for name, limit in self.limits.items()}

    @property
    def violations(self) -> dict[str, float]:
        """The constraints that are broken."""
        return {name: excess for name, excess in self.constraints.items() if excess > 0}

    @property
    def is_feasible(self) -> bool:
        """Whether no limit is known to be broken.

        >>> Verdict(predicted={"macs": 5.0}, limits={"macs": 4.0}).is_feasible
        False
        """
        return not self.violations

    @property
    def excess(self) -> float:
        """The largest share by which a limit is broken; 0 if none is."""
        return max(self.violations.values(), default=0.0)

    def __str__(self) -> str:
        return ", ".join(
            f"{name} {quantity(self.predicted[name], Resource(name).unit)}, limit "
            f"{quantity(limit, Resource(name).unit)} ({self.constraints[name]:+.0%})"
            for name, limit in self.limits.items()
        )


class Feasibility:
    """Prices configurations, each structure once.

    The network is built on the meta device, where that suffices, and priced on the limited
    resources alone. A latency on this machine is measured, on the untrained network.

    Args:
        build_data: Makes the data of a configuration.
        build_network: Makes its network.
        folder: Where prices are kept for the next sweep there; ``None``: nowhere.
        example_of: One image of the data; by default the first of its validation part.
    """

    def __init__(
        self,
        build_data: BuildData,
        build_network: BuildNetwork,
        folder: Path | None = None,
        *,
        example_of: ExampleOf | None = None,
    ) -> None:
        self._build_data, self._build_network = build_data, build_network
        self._path = None if folder is None else folder / PRICES_NAME
        self._verdicts = self._read()
        self._example_of = example_of or self._first_image
        self._data: dict[str, Any] = {}
        self._images: dict[int, Tensor] = {}

    def __call__(self, composed: DictConfig) -> Verdict:
        """What is known of ``composed``.

        Raises:
            ValueError: If the configuration is refused by what would run it.
        """
        key = _key(composed)
        if key not in self._verdicts:
            config = OmegaConf.to_object(composed)
            assert isinstance(config, RunConfig)
            self._verdicts[key] = self._priced(config)
            self._save(key, self._verdicts[key])
        return self._verdicts[key]

    def data_of(self, config: RunConfig) -> Any:
        """The data of a configuration, made once."""
        key = json.dumps(config.data, default=str, sort_keys=True)
        if key not in self._data:
            self._data[key] = self._build_data(config)
        return self._data[key]

    def _priced(self, config: RunConfig) -> Verdict:
        config.settle_hardware()
        if config.budget.is_empty:
            return Verdict()
        config.budget.require_hardware(config.hardware)
        resources = config.budget.resources
        is_counted = all(resource.is_counted for resource in resources)
        on_meta = not config.compress.prune and config.compress.quantize is None
        on_meta = on_meta and (is_counted or not config.hardware.is_local)
        network, example = self.built(config, on_meta=on_meta)
        priced = measure_structure if on_meta else measure
        cost = priced(network, example, hardware=config.hardware, resources=resources)
        limits = config.budget.limits(cost)
        if config.compress.prune or config.compress.quantize is not None:
            cost = smallest_cost(config, network, example, limits, cost, may_measure=True)
        return Verdict(
            predicted={str(resource): float(cost[resource].value) for resource in limits},
            limits={str(resource): float(limit) for resource, limit in limits.items()},
        )

    def built(self, config: RunConfig, *, on_meta: bool) -> tuple[nn.Module, Tensor]:
        """The network, and one of the images that it is for."""
        data = self.data_of(config)
        example = self._example_of(config, data)
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng(devices=[]))
            if on_meta:
                stack.enter_context(ShapeOnly())
                stack.enter_context(torch.device("meta"))
            network = self._build_network(config, data)
        return network, example.to("meta") if on_meta else example

    def _first_image(self, config: RunConfig, data: Any) -> Tensor:
        if id(data) not in self._images:
            self._images[id(data)] = first_images(data)[:1]
        return self._images[id(data)]

    def _read(self) -> dict[str, Verdict]:
        """The prices of earlier starts; what cannot be read, a line cut off, say, is found anew."""
        found: dict[str, Verdict] = {}
        if self._path is None or not self._path.exists():
            return found
        for line in self._path.read_text(errors="replace").splitlines():
            with contextlib.suppress(*UNREADABLE):
                kept = json.loads(line)
                found[text(kept["key"], "key")] = Verdict.from_dict(kept)
        return found

    def _save(self, key: str, verdict: Verdict) -> None:
        """Add a line, so that a thousand prices do not take a thousand times as long."""
        if self._path is None:
            return
        line = {"key": key, "predicted": dict(verdict.predicted), "limits": dict(verdict.limits)}
        # on a full disk it is found anew the next time
        with contextlib.suppress(OSError), self._path.open("a") as file:
            # where the last start was killed while it wrote, its line ends here
            file.write(f"\n{json.dumps(line)}")


def _key(composed: DictConfig) -> str:
    """Equal for configurations whose networks cost the same."""
    parts: dict[str, Any] = {
        name: OmegaConf.to_container(composed[name], resolve=True)
        if OmegaConf.is_config(composed[name])
        else composed[name]
        for name in STRUCTURAL
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
