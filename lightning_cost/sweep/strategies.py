"""Optuna's samplers and pruners by name."""

import statistics
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from lightning_cost.sweep.space import values_of

NEEDS_VALUES = ("gp", "nsga2")
"""Samplers that learn from finished trials alone: an infeasible one is given neutral values."""
_GRID_LIMIT = 1_000_000

PRUNERS: Mapping[str, Callable[[], BasePruner]] = {
    "none": optuna.pruners.NopPruner,
    "median": optuna.pruners.MedianPruner,
    "hyperband": optuna.pruners.HyperbandPruner,
    "halving": optuna.pruners.SuccessiveHalvingPruner,
}


def sampler_of(name: str, seed: int, distributions: Mapping[str, BaseDistribution]) -> BaseSampler:
    """The sampler called ``name``.

    Args:
        name: One of tpe, gp, nsga2, cmaes, grid, random.
        seed: Of what it draws.
        distributions: Of the space, which a grid goes through.

    Raises:
        ValueError: If there is none of that name; or if a grid is asked for of a space with
            continuous parameters or too many points.
        ImportError: If its package is missing.
    """
    makers: dict[str, Callable[[], BaseSampler]] = {
        "tpe": lambda: optuna.samplers.TPESampler(seed=seed),
        "gp": lambda: optuna.samplers.GPSampler(seed=seed),
        "nsga2": lambda: optuna.samplers.NSGAIISampler(seed=seed),
        "cmaes": lambda: _cmaes(seed),
        "grid": lambda: optuna.samplers.GridSampler(grid_of(distributions), seed=seed),
        "random": lambda: optuna.samplers.RandomSampler(seed=seed),
    }
    if name not in makers:
        raise ValueError(f"sampler must be one of {', '.join(makers)}, got {name!r}; choose one")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return makers[name]()


def neutral_values(finished: Sequence[FrozenTrial], num_objectives: int) -> list[float]:
    """The medians of the objectives: neither good nor bad, where a sampler needs a value."""
    columns = list(zip(*(trial.values for trial in finished), strict=True))
    return [statistics.median(column) for column in columns or [(0.0,)] * num_objectives]


def pruner_of(name: str) -> BasePruner:
    """The pruner called ``name``.

    Raises:
        ValueError: If there is none of that name.
    """
    if name not in PRUNERS:
        raise ValueError(f"pruner must be one of {', '.join(PRUNERS)}, got {name!r}; choose one")
    return PRUNERS[name]()


def grid_of(distributions: Mapping[str, BaseDistribution]) -> dict[str, list[Any]]:
    """Every value of each parameter.

    Raises:
        ValueError: If a parameter is continuous.
    """
    grid: dict[str, list[Any]] = {}
    size = 1
    for key, distribution in distributions.items():
        values = values_of(distribution)
        if values is None:
            raise ValueError(
                f"{key} must have single values for sampler=grid, got {distribution}; write "
                "choice(...) or a range of whole numbers, or take another sampler"
            )
        grid[key] = list(values)
        size *= len(values)
        if size > _GRID_LIMIT:
            raise ValueError(
                f"the grid must have at most {_GRID_LIMIT:,} points, got more by {key}; "
                "take another sampler"
            )
    return grid


def _cmaes(seed: int) -> BaseSampler:
    try:
        import cmaes  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "sampler=cmaes needs the package cmaes, which is not installed; "
            "pip install 'lightning-cost[cmaes]'"
        ) from error
    return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
