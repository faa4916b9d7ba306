"""Covariance matrix adaptation over scales and shifts: the same search by another optimizer."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lightning_cost.pruning.search.candidate import Candidate, deviations
from lightning_cost.pruning.search.evolution import EvolutionSearch
from lightning_cost.pruning.search.ledger import Ledger, Outcome

_MAX_REPEATS = 50
_WORST = 1e30
"""In place of infinity, which the package would reckon with."""

_Point = npt.NDArray[np.float64]


class RankingCovariance:
    """Asks for the fitness of candidates drawn around a mean that moves to the better ones.

    A point is log α of each group, then κ in standard deviations of the group's scores. The plain
    rankings come first; the search begins at the best of them, and anew at the best candidate when
    it has converged. Of the settings, ``population_size``, ``tournament_size`` and
    ``mutation_ratio`` belong to the other optimizer.

    Args:
        settings: How much is searched.
        bases: Saliencies by name, each with the same groups in the same order.
        generator: All randomness.
        outcome: What a candidate makes: candidates of one outcome are one.

    Raises:
        ValueError: If the package ``cmaes`` is not installed.

    Reference:
        Hansen, "The CMA Evolution Strategy: A Tutorial", 2016, as in the package ``cmaes``.
    """

    def __init__(
        self,
        settings: EvolutionSearch,
        bases: Mapping[str, Mapping[str, Tensor]],
        generator: torch.Generator,
        outcome: Outcome | None = None,
    ) -> None:
        self._new = _optimizer_class()
        self._settings = settings
        self._num_groups = len(next(iter(bases.values())))
        self.ledger = Ledger(tuple(bases), self._num_groups, outcome)
        self._deviations = {
            base: np.array(spread, dtype=np.float64) for base, spread in deviations(bases).items()
        }
        self._generator = generator
        self._cma: Any = None
        self._base = ""
        self._waiting: dict[Candidate, _Point] = {}
        self._generation: list[tuple[_Point, float]] = []

    def ask(self) -> Candidate | None:
        """The next candidate to judge, or ``None`` if there is none for now."""
        if self.ledger.num_asked >= self._settings.num_candidates:
            return None
        plain = self.ledger.next_plain()
        if plain is not None:
            return self.ledger.ask(plain)
        for _ in range(_MAX_REPEATS if self.ledger.is_plain_told else 0):
            if self._cma is None:
                self._start()
            elif len(self._generation) + len(self._waiting) >= self._cma.population_size:
                return None  # the rest of the generation is to be told of first
            point = self._cma.ask()
            candidate = self._candidate(point)
            known = self.ledger.fitness_of(candidate)
            if known is not None:
                self._learn(point, known)
            elif self.ledger.is_new(candidate):
                self._waiting[candidate] = point
                return self.ledger.ask(candidate)
        return None

    def tell(self, candidate: Candidate, fitness: float, *, is_rejected: bool = False) -> None:
        """Record the fitness of a candidate; NaN counts as infinitely bad."""
        fitness = self.ledger.tell(candidate, fitness, is_rejected=is_rejected)
        point = self._waiting.pop(candidate, None)
        if point is not None:
            self._learn(point, fitness)

    def _start(self) -> None:
        best, _ = self.ledger.best
        seed = int(torch.randint(2**31, (), generator=self._generator))
        spread = self._deviations[best.base]
        shift = np.divide(best.kappa, spread, out=np.zeros(len(spread)), where=spread > 0)
        mean = np.concatenate([np.log(best.alpha), shift])
        self._base = best.base
        self._cma = self._new(mean=mean, sigma=self._settings.initial_noise, seed=seed)

    def _candidate(self, point: _Point) -> Candidate:
        log_alpha, shift = point[: self._num_groups], point[self._num_groups :]
        kappa: list[float] = (shift * self._deviations[self._base]).tolist()
        alpha = [math.exp(value) for value in log_alpha.clip(-30, 30).tolist()]
        return Candidate(base=self._base, alpha=tuple(alpha), kappa=tuple(kappa))

    def _learn(self, point: _Point, fitness: float) -> None:
        self._generation.append((point, min(fitness, _WORST)))
        if len(self._generation) == self._cma.population_size:
            self._cma.tell(self._generation)
            self._generation = []
            if self._cma.should_stop():
                self._cma = None


def _optimizer_class() -> Any:
    try:
        from cmaes import CMA
    except ImportError as error:
        raise ValueError(
            "optimizer must be one whose package is installed, got 'cmaes'; "
            "pip install 'lightning-cost[cmaes]', or use optimizer='evolution'"
        ) from error
    return CMA
