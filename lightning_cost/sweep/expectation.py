"""What a run of a sweep will compute, before it starts."""

from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf

from lightning_cost.recipe.config import RunConfig
from lightning_cost.recipe.data import facts_of
from lightning_cost.recipe.planned_compute import planned_shares
from lightning_cost.sweep.composition import Composition
from lightning_cost.sweep.feasibility import STRUCTURAL, Feasibility
from lightning_cost.sweep.spending import ExpectedFlops

COMPUTED_FROM = (*STRUCTURAL, "training")
"""The parts of a configuration that the compute of its run follows from."""


class Expectation:
    """Plans the compute of runs, each structure once.

    Args:
        composition: Has composed one configuration at least.
        feasibility: Builds what is planned.
    """

    def __init__(self, composition: Composition, feasibility: Feasibility) -> None:
        self._composition, self._feasibility = composition, feasibility
        self._left_out = composition.without_effect_on(COMPUTED_FROM)
        self._known: dict[tuple[Any, ...], ExpectedFlops | None] = {}

    def __call__(self, settings: Mapping[str, Any]) -> ExpectedFlops | None:
        """What the run will compute; ``None`` where the data do not tell how large they are."""
        key = tuple((name, each) for name, each in settings.items() if name not in self._left_out)
        if key not in self._known:
            self._known[key] = self._planned(settings)
        return self._known[key]

    def _planned(self, settings: Mapping[str, Any]) -> ExpectedFlops | None:
        config = OmegaConf.to_object(self._composition(settings))
        assert isinstance(config, RunConfig)
        network, example = self._feasibility.built(config, on_meta=False)
        sizes: dict[str, int] = facts_of(self._feasibility.data_of(config))["split_sizes"]
        if "train" not in sizes:
            return None
        shares = planned_shares(config, network, example, sizes, 1.0)
        return ExpectedFlops(
            least=sum(share.flops for share in shares if not share.is_at_most),
            most=sum(share.flops for share in shares),
        )
