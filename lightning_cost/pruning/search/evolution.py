"""Regularised evolution over scales and shifts: tournaments, mutation, and the oldest leaves."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lightning_cost.pruning.saliency import COMBINATIONS, SALIENCIES
from lightning_cost.pruning.search.candidate import Candidate, deviations
from lightning_cost.pruning.search.ledger import Ledger, Outcome

OPTIMIZERS = ("evolution", "cmaes")
_MAX_REPEATS = 50
_REPEATS_TO_DOUBLE = 10


@dataclass(kw_only=True, slots=True)
class EvolutionSearch:
    """How much is searched, and how.

    Args:
        optimizer: What proposes candidates: ``"evolution"``, or ``"cmaes"``, which needs the
            package of that name.
        num_candidates: Candidates in all, the plain rankings included.
        population_size: Candidates that are alive at a time.
        tournament_size: Candidates drawn, with replacement, of which the best has the offspring.
        mutation_ratio: Share of the groups that a mutation changes.
        initial_noise: Spread of log α, and of κ in standard deviations of the group's scores, at
            the start; it falls to a tenth at the end.
        saliencies: What channels are scored by, see ``group_saliency``. The rankings by each of
            them, as ranks in the group, divided by the group's mean, and raw, are the first
            candidates.
        combine: How the scores of coupled layers become one, ``"sum"`` or ``"mean"``.
        num_parallel: Candidates that are asked for at a time, for the ranks to divide. What is
            found depends on it, and not on the number of ranks.
        reconstruct: Whether the layers of a network that was cut are fitted, by least squares, to
            give what they gave before: in candidates, and in the network itself. Without it,
            candidates are judged at milder cuts than the target, near which they would be no
            better than chance.
        tune_steps: SGD steps that a candidate is trained before it is judged.
        glance_ratio: Share of the search samples after which a candidate is rejected that is
            worse than three quarters of those alive; 0 judges each on all of them.
        calibration_samples: Training samples that batch norms are recalibrated on.
        search_samples: Held-out samples that a candidate is judged by.

    Raises:
        ValueError: If a number is out of range, or a name unknown.
    """

    optimizer: str = "evolution"
    num_candidates: int = 100
    population_size: int = 24
    tournament_size: int = 6
    mutation_ratio: float = 0.2
    initial_noise: float = 0.5
    saliencies: list[str] = field(default_factory=lambda: ["l2"])
    combine: str = "sum"
    num_parallel: int = 4
    reconstruct: bool = True
    tune_steps: int = 0
    glance_ratio: float = 0.25
    calibration_samples: int = 1024
    search_samples: int = 1024

    def __post_init__(self) -> None:
        counts = ("num_candidates", "population_size", "tournament_size", "num_parallel")
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
        if self.tune_steps < 0:
            raise ValueError(
                f"tune_steps must be >= 0, got {self.tune_steps}; 0 judges right after the cut"
            )
        if not 0 <= self.glance_ratio < 1:
            raise ValueError(
                f"glance_ratio must lie in [0, 1), got {self.glance_ratio}; "
                "0 judges every candidate on all samples"
            )
        if not self.saliencies or len(set(self.saliencies)) < len(self.saliencies):
            raise ValueError(
                f"saliencies must name one or more, each once, got {list(self.saliencies)}; "
                "leave them out for the usual ones"
            )
        for name, known in (
            ("optimizer", OPTIMIZERS),
            ("combine", COMBINATIONS),
            ("saliencies", SALIENCIES),
        ):
            given = getattr(self, name)
            unknown = [each for each in ([given] if isinstance(given, str) else given)]
            unknown = [each for each in unknown if each not in known]
            if unknown:
                raise ValueError(
                    f"{name} must be of {', '.join(known)}, got {unknown[0]!r}; "
                    "see EvolutionSearch for what they mean"
                )


class RankingEvolution:
    """Asks for the fitness of candidates, and lets the fit ones have offspring.

    Plain rankings by every saliency come first, so that the winner is never worse than the best
    of those that ``num_candidates`` leaves room for. A candidate that makes the same network as an
    earlier one is passed over.

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
        >>> search.ledger.num_told
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
        outcome: Outcome | None = None,
    ) -> None:
        self._settings = settings
        self._num_groups = len(next(iter(bases.values())))
        self.ledger = Ledger(tuple(bases), self._num_groups, outcome)
        self._deviations = deviations(bases)
        self._generator = generator
        self._population: list[tuple[Candidate, float]] = []

    def ask(self) -> Candidate | None:
        """The next candidate to judge, or ``None`` if there is none for now.

        There is none after ``num_candidates``, or when mutations make nothing new any more.
        """
        if self.ledger.num_asked >= self._settings.num_candidates:
            return None
        plain = self.ledger.next_plain()
        if plain is not None:
            return self.ledger.ask(plain)
        for repeat in range(_MAX_REPEATS if self._population else 0):
            # a small mutation of a small network changes no channel: then a larger one is tried
            candidate = self._offspring(self._step() * 2 ** (repeat / _REPEATS_TO_DOUBLE))
            if self.ledger.is_new(candidate):
                return self.ledger.ask(candidate)
        return None

    def tell(self, candidate: Candidate, fitness: float, *, is_rejected: bool = False) -> None:
        """Record the fitness of a candidate; NaN counts as infinitely bad."""
        self._admit(candidate, self.ledger.tell(candidate, fitness, is_rejected=is_rejected))

    def _admit(self, candidate: Candidate, fitness: float) -> None:
        self._population.append((candidate, fitness))
        del self._population[: -self._settings.population_size]

    def _offspring(self, spread: float) -> Candidate:
        size = (min(self._settings.tournament_size, 4 * len(self._population)),)
        drawn = torch.randint(len(self._population), size, generator=self._generator).tolist()
        parent, _ = min((self._population[place] for place in drawn), key=lambda entry: entry[1])
        count = max(1, round(self._settings.mutation_ratio * self._num_groups))
        mutated = torch.randperm(self._num_groups, generator=self._generator)[:count].tolist()
        noise = torch.randn(2, count, generator=self._generator, dtype=torch.float64) * spread
        alpha, kappa = list(parent.alpha), list(parent.kappa)
        for place, scaling, shift in zip(mutated, *noise.tolist(), strict=True):
            alpha[place] *= math.exp(scaling)
            kappa[place] += shift * self._deviations[parent.base][place]
        return Candidate(base=parent.base, alpha=tuple(alpha), kappa=tuple(kappa))

    def _step(self) -> float:
        progress = self.ledger.num_told / self._settings.num_candidates
        return self._settings.initial_noise * (1 - 0.9 * progress)
