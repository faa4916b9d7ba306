"""What a sweep with a sampler would cost, and how much of its space is feasible; nothing runs."""

import itertools
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import BaseDistribution

from lightning_cost.recipe.config import RunConfig
from lightning_cost.recipe.plan import PlanConfig, Samples, plan_spend, samples_of
from lightning_cost.recipe.run_plan import RunPlan
from lightning_cost.recipe.run_report import METRIC, TEST_METRIC
from lightning_cost.sweep.composition import Composition
from lightning_cost.sweep.feasibility import STRUCTURAL, Feasibility, Verdict
from lightning_cost.sweep.objectives import require_reported
from lightning_cost.sweep.settings import SweepSettings
from lightning_cost.sweep.space import Space, size_of, values_of
from lightning_cost.sweep.strategies import sampler_of
from lightning_cost.sweep.sweeper import HydraSide

FLOPS = "flops"
_PARTS = (
    *STRUCTURAL,
    "training",
    "train_on",
    "train_hardware",
    "num_devices",
    "utilisation",
    "num_samples",
    "image_size",
    "prices",
    "region",
)
# of how a run is trained, only these change what it takes
_OF_TRAINER = ("trainer.devices", "trainer.precision")


@dataclass(frozen=True, kw_only=True, slots=True)
class Amount:
    """What one run takes of something, over the feasible configurations that were judged.

    Args:
        least, mean, most: In ``unit``.
        unit: Such as ``"kWh"``.
        assumptions: What they rest on.
    """

    least: float
    mean: float
    most: float
    unit: str
    assumptions: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepPlan:
    """What a sweep would cost, and how much of its space is feasible.

    A combination is one of values of the parameters that change what a run costs.

    Args:
        space: The parameters as written.
        settings: How the sweep is carried out.
        varied: The parameters that change what a run costs.
        num_combinations: How many there are; ``None`` where one of ``varied`` is continuous.
        num_judged: How many of them were judged.
        num_feasible: How many of those can keep their budget, as far as can be known.
        num_refused: How many cannot be built.
        num_others: How many configurations share a combination; ``None``: any number.
        shortage: Why not all that were to be judged were; ``None`` if they were.
        limits: Of the model budget, by resource, where the combinations share it.
        nearest: Settings and verdict of the infeasible one that misses least.
        refusal: Why the first of those that cannot be built cannot.
        amounts: By name: ``"flops"``, and the names of ``TrainingBudget``; without those that
            are not known.
        unknown: Why the others are not known, by name.
    """

    space: Mapping[str, str]
    settings: SweepSettings
    varied: tuple[str, ...]
    num_combinations: int | None
    num_judged: int
    num_feasible: int
    num_refused: int = 0
    num_others: int | None = None
    shortage: str | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    nearest: tuple[Mapping[str, Any], Verdict] | None = None
    refusal: str | None = None
    amounts: Mapping[str, Amount] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_exhaustive(self) -> bool:
        """Whether every combination was judged."""
        return self.num_judged == self.num_combinations

    @property
    def num_runs(self) -> int:
        """How many runs there would be: the trials asked for, or all that the space has."""
        wanted = self.settings.num_trials
        if not self.num_feasible:
            return 0
        if self.num_others is None or not self.is_exhaustive:
            return wanted
        return min(wanted, self.num_feasible * self.num_others)

    def total(self, name: str) -> float:
        """What that many runs of the mean take."""
        return self.num_runs * self.amounts[name].mean

    @property
    def num_affordable(self) -> int:
        """How many runs of the mean the sweep's own training budget has room for."""
        room = [
            math.floor(limit / self.amounts[name].mean)
            for name, limit in self.settings.training.limits().items()
            if name in self.amounts
        ]
        return min([self.num_runs, *room])


def plan_sweep(
    space: Space,
    settings: SweepSettings,
    master: DictConfig,
    hydra_side: HydraSide,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> SweepPlan:
    """Judge the combinations of a space, all or a sample of them, and plan the feasible ones.

    A combination is built, priced and its training counted, as for a sweep and as for ``plan``
    alone; nothing is trained, and no study is opened.

    Args:
        space: What would be varied.
        settings: How.
        master: The configuration of ``plan`` that the sweep starts from.
        hydra_side: Composes and builds.
        clock: Seconds that never go back.

    Raises:
        ValueError: If an objective is unknown, a setting is out of range, or no configuration can
            be built.
    """
    if not master.num_sampled >= 1:
        raise ValueError(f"num_sampled must be >= 1, got {master.num_sampled}; 1000 is usual")
    if not master.time_limit_s > 0:
        raise ValueError(
            f"time_limit_s must be > 0, got {master.time_limit_s:g}; 60 is usual, inf is no limit"
        )
    require_reported(settings.found, (METRIC, TEST_METRIC))
    sampler_of(settings.sampler, settings.seed, space.distributions)  # says what is wrong with it
    composition = Composition(space, hydra_side.compose, hydra_side.is_group)
    composition({key: entry.example for key, entry in space.parameters.items()})
    left_out = composition.without_effect_on(_PARTS).difference(_OF_TRAINER)
    varied = {key: each for key, each in space.distributions.items() if key not in left_out}
    rest = {key: each for key, each in space.distributions.items() if key in left_out}
    usual = {key: space.parameters[key].example for key in rest}
    planner = _Planner(hydra_side)
    found = _Found()
    size = size_of(varied)
    wanted = master.num_sampled if size is None else min(size, master.num_sampled)
    until = clock() + master.time_limit_s
    for chosen in itertools.islice(_combinations(varied, settings.seed, wanted), wanted):
        found.add(chosen, planner, composition({**chosen, **usual}))
        if clock() >= until:
            break
    if found.num_refused == found.num_judged:
        raise ValueError(
            f"the space must hold configurations that can be built, got {found.num_refused} that "
            f"cannot; the first: {found.refusal}"
        )
    shortage = f"after {master.time_limit_s:g} s" if found.num_judged < wanted else None
    return SweepPlan(
        space={key: entry.written for key, entry in space.parameters.items()},
        settings=settings,
        varied=tuple(varied),
        num_combinations=size,
        num_judged=found.num_judged,
        num_feasible=len(found.plans),
        num_refused=found.num_refused,
        num_others=size_of(rest),
        shortage=shortage,
        limits=found.limits,
        nearest=found.nearest,
        refusal=found.refusal,
        amounts=found.amounts(),
        unknown=found.unknown(),
    )


class _Planner:
    """The verdict and the plan of a configuration; data are read once."""

    def __init__(self, hydra_side: HydraSide) -> None:
        self._build = hydra_side.build_network
        self._samples: dict[str, Samples] = {}
        self._feasibility = Feasibility(
            hydra_side.build_data,
            hydra_side.build_network,
            example_of=lambda config, data: self._samples_of(config, data).example,
        )

    def verdict(self, composed: DictConfig) -> Verdict:
        return self._feasibility(composed)

    def plan(self, composed: DictConfig) -> RunPlan:
        config = _config_of(composed)
        data = self._feasibility.data_of(config)
        return plan_spend(config, self._build(config, data), self._samples_of(config, data))

    def _samples_of(self, config: RunConfig, data: Any) -> Samples:
        assert isinstance(config, PlanConfig)
        channels = config.model.get("in_channels")
        key = f"{config.data} {config.num_samples} {config.image_size} {channels}"
        if key not in self._samples:
            self._samples[key] = samples_of(config, data)
        return self._samples[key]


class _Found:
    """What came of the combinations so far."""

    def __init__(self) -> None:
        self.num_judged = self.num_refused = 0
        self.limits: dict[str, float] = {}
        self.nearest: tuple[Mapping[str, Any], Verdict] | None = None
        self.refusal: str | None = None
        self.plans: list[RunPlan] = []

    def add(self, chosen: Mapping[str, Any], planner: _Planner, composed: DictConfig) -> None:
        """Judge one; it is planned where it is feasible."""
        self.num_judged += 1
        try:
            verdict = planner.verdict(composed)
            plan = planner.plan(composed) if verdict.is_feasible else None
        except Exception as error:  # a configuration that is refused: in a sweep a failed trial
            self.num_refused += 1
            self.refusal = self.refusal or str(error)
            return
        limits = dict(verdict.limits)
        is_first = self.num_judged - self.num_refused == 1
        shared = limits if is_first else self.limits
        self.limits = {name: limit for name, limit in shared.items() if limits.get(name) == limit}
        if plan is not None:
            self.plans.append(plan)
        elif self.nearest is None or verdict.excess < self.nearest[1].excess:
            self.nearest = chosen, verdict

    def amounts(self) -> dict[str, Amount]:
        """What one run takes, by name."""
        found = {}
        for name in self._names():
            values = [_value(plan, name) for plan in self.plans]
            known = [value for value in values if value is not None]
            if len(known) < len(values):
                continue
            found[name] = Amount(
                least=min(known),
                mean=sum(known) / len(known),
                most=max(known),
                unit="FLOP" if name == FLOPS else self.plans[0].spend[name].unit,
                assumptions="training, validation and search"
                if name == FLOPS
                else self.plans[0].spend[name].assumptions,
            )
        return found

    def unknown(self) -> dict[str, str]:
        """Why what is not known is not."""
        return {
            name: estimate.assumptions
            for plan in self.plans
            for name, estimate in plan.spend.items()
            if estimate.value is None
        }

    def _names(self) -> list[str]:
        return [FLOPS, *self.plans[0].spend] if self.plans else []


def _value(plan: RunPlan, name: str) -> float | None:
    return plan.flops if name == FLOPS else plan.spend[name].value


def _config_of(composed: DictConfig) -> PlanConfig:
    config = OmegaConf.to_object(composed)
    assert isinstance(config, PlanConfig)
    return config


def _combinations(
    varied: Mapping[str, BaseDistribution], seed: int, most: int
) -> Iterator[Mapping[str, Any]]:
    """Combinations in a random order: every one once where there are at most ``most``."""
    size = size_of(varied)
    if size is not None and size <= most:
        all_values = [values_of(each) or () for each in varied.values()]
        points = [dict(zip(varied, point, strict=True)) for point in itertools.product(*all_values)]
        random.Random(seed).shuffle(points)
        yield from points
        return
    sampler = optuna.samplers.RandomSampler(seed=seed)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=sampler)
    while True:
        yield study.ask(dict(varied)).params
