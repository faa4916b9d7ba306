"""Regularised evolution over scales and shifts: tournaments, mutation, and the oldest leaves."""

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_cost.pruning.candidate import Candidate, deviations

_MAX_REPEATS = 50


@dataclass(kw_only=True, slots=True)
class EvolutionSearch:
    """How much is searched, and how.

    Args:
        num_candidates: Candidates in all, the plain rankings included.
        population_size: Candidates that are alive at a time.
        tournament_size: Candidates drawn, with replacement, of which the best has the offspring.
        mutation_ratio: Share of the groups that a mutation changes.
        initial_noise: Spread of log α, and of κ in standard deviations of the group's scores, at
            the start; it falls to a tenth at the end.
        calibration_samples: Training samples that batch norms are recalibrated on.
        search_samples: Held-out samples that a candidate is judged by.

    Raises:
        ValueError: If a number is out of range.
    """

    num_candidates: int = 100
    population_size: int = 24
    tournament_size: int = 6
    mutation_ratio: float = 0.2
    initial_noise: float = 0.5
    calibration_samples: int = 1024
    search_samples: int = 1024

    def __post_init__(self) -> None:
        counts = ("num_candidates", "population_size", "tournament_size")
        for name in (*counts, "calibration_samples", "search_samples"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name} must be >= 1, got {getattr(self, name)}; "
                    "num_candidates=1 takes the first plain ranking without a search"
                )
        if not 0 < self.mutation_ratio <= 1:
            raise ValueError(
                f"mutation_ratio must lie in (0, 1], got {self.mutation_ratio}; "
                "0.1 changes one group in ten"
            )
        if not self.initial_noise > 0:
            raise ValueError(
                f"initial_noise must be > 0, got {self.initial_noise}; "
                "use num_candidates to search less"
            )


class RankingEvolution:
    """Asks for the fitness of one candidate at a time; lower is better.

    Plain rankings by every saliency come first, so that the winner is never worse than the best
    of those that ``num_candidates`` leaves room for. A candidate that makes the same network as an
    earlier one takes over its fitness without being asked for again.

    Args:
        settings: How much is searched.
        bases: Saliencies by name, each with the same groups in the same order.
        generator: All randomness.
        outcome: What a candidate makes (a plan, say): candidates of one outcome are one.

    Example:
        >>> bases = {"l2": {"a": torch.tensor([1.0, 2.0])}}
        >>> search = RankingEvolution(
        ...     EvolutionSearch(num_candidates=3), bases, torch.Generator().manual_seed(0)
        ... )
        >>> while (candidate := search.ask()) is not None:
        ...     search.tell(candidate, abs(candidate.alpha[0] - 2))
        >>> search.num_told
        3

    Reference:
        Real et al., "Regularized Evolution for Image Classifier Architecture Search", 2019; Chin
        et al., "Towards Efficient Model Compression via Learned Global Ranking", 2020.
    """

    def __init__(
        self,
        settings: EvolutionSearch,
        bases: Mapping[str, Mapping[str, Tensor]],
        generator: torch.Generator,
        outcome: Callable[[Candidate], Hashable] | None = None,
    ) -> None:
        self._settings = settings
        self._bases = tuple(bases)
        self._num_groups = len(next(iter(bases.values())))
        self._deviations = deviations(bases)
        self._generator = generator
        self._outcome: Callable[[Candidate], Hashable] = outcome or (lambda candidate: candidate)
        self._told: list[tuple[Candidate, float]] = []
        self._fitness: dict[Hashable, float] = {}
        self._population: list[tuple[Candidate, float]] = []

    @property
    def num_told(self) -> int:
        """Candidates whose fitness was computed."""
        return len(self._told)

    @property
    def best(self) -> tuple[Candidate, float]:
        """The fittest candidate so far, the earliest of equals, and its fitness.

        Raises:
            ValueError: If no candidate has been told of.
        """
        if not self._told:
            raise ValueError("best needs one candidate told of, got none; ask and tell first")
        return min(self._told, key=lambda told: told[1])

    @property
    def plain(self) -> dict[str, float]:
        """Fitness of the plain rankings, by saliency."""
        known = {
            base: self._fitness.get(self._outcome(Candidate.identity(base, self._num_groups)))
            for base in self._bases
        }
        return {base: fitness for base, fitness in known.items() if fitness is not None}

    def ask(self) -> Candidate | None:
        """The next candidate to judge, or ``None`` when the search is over.

        It is over after ``num_candidates``, or when mutations make nothing new any more.
        """
        if len(self._told) >= self._settings.num_candidates:
            return None
        for base in self._bases:
            candidate = Candidate.identity(base, self._num_groups)
            if self._outcome(candidate) not in self._fitness:
                return candidate
        for _ in range(_MAX_REPEATS):
            candidate = self._offspring()
            known = self._fitness.get(self._outcome(candidate))
            if known is None:
                return candidate
            self._admit(candidate, known)
        return None

    def tell(self, candidate: Candidate, fitness: float) -> None:
        """Record the fitness of a candidate; NaN counts as infinitely bad."""
        fitness = math.inf if math.isnan(fitness) else fitness
        self._told.append((candidate, fitness))
        self._fitness[self._outcome(candidate)] = fitness
        self._admit(candidate, fitness)

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on, as plain data and one tensor."""
        return {
            "told": [(candidate.to_dict(), fitness) for candidate, fitness in self._told],
            "population": [
                (candidate.to_dict(), fitness) for candidate, fitness in self._population
            ],
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state`` was taken."""
        self._told = [(Candidate.from_dict(data), fitness) for data, fitness in state["told"]]
        self._fitness = {self._outcome(candidate): fitness for candidate, fitness in self._told}
        self._population = [
            (Candidate.from_dict(data), fitness) for data, fitness in state["population"]
        ]
        self._generator.set_state(state["generator"])

    def _admit(self, candidate: Candidate, fitness: float) -> None:
        self._population.append((candidate, fitness))
        del self._population[: -self._settings.population_size]

    def _offspring(self) -> Candidate:
        size = (min(self._settings.tournament_size, 4 * len(self._population)),)
        drawn = torch.randint(len(self._population), size, generator=self._generator).tolist()
        parent, _ = min((self._population[place] for place in drawn), key=lambda entry: entry[1])
        count = max(1, round(self._settings.mutation_ratio * self._num_groups))
        mutated = torch.randperm(self._num_groups, generator=self._generator)[:count].tolist()
        noise = torch.randn(2, count, generator=self._generator, dtype=torch.float64) * self._step()
        alpha, kappa = list(parent.alpha), list(parent.kappa)
        for place, scaling, shift in zip(mutated, *noise.tolist(), strict=True):
            alpha[place] *= math.exp(scaling)
            kappa[place] += shift * self._deviations[parent.base][place]
        return Candidate(base=parent.base, alpha=tuple(alpha), kappa=tuple(kappa))

    def _step(self) -> float:
        progress = len(self._told) / self._settings.num_candidates
        return self._settings.initial_noise * (1 - 0.9 * progress)
