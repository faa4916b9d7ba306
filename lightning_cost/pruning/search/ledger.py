"""What the candidates of a search were judged at, whatever proposes them."""

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

from lightning_cost.pruning.search.candidate import Candidate

Outcome = Callable[[Candidate], Hashable]
"""What a candidate makes (its plans, say): candidates of one outcome are one."""


class RankingOptimizer(Protocol):
    """Proposes candidates and learns from what they are judged at; lower is better.

    Several may be asked for before the first of them is told of. What is proposed depends on the
    order of these calls alone.
    """

    ledger: "Ledger"

    def ask(self) -> Candidate | None:
        """The next candidate to judge; ``None`` if there is none before more are told of.

        With nothing left to tell of, ``None`` is the end of the search.
        """

    def tell(self, candidate: Candidate, fitness: float, *, is_rejected: bool = False) -> None:
        """Record what a candidate was judged at; one that was rejected never wins."""


class Ledger:
    """Which candidates were asked for, and what they were judged at.

    Args:
        bases: Names of the saliencies.
        num_groups: Channel groups.
        outcome: What a candidate makes.
    """

    def __init__(
        self, bases: Sequence[str], num_groups: int, outcome: Outcome | None = None
    ) -> None:
        self._plain = {base: Candidate.identity(base, num_groups) for base in bases}
        self._outcome: Outcome = outcome or (lambda candidate: candidate)
        self._fitness: dict[Hashable, float] = {}
        self._pending: set[Hashable] = set()
        self._best: tuple[Candidate, float] | None = None
        self.num_told = 0

    @property
    def num_asked(self) -> int:
        """Candidates that were given out, told of or not."""
        return self.num_told + len(self._pending)

    @property
    def best(self) -> tuple[Candidate, float]:
        """The fittest candidate so far, the earliest of equals, and its fitness.

        Raises:
            ValueError: If no candidate has been told of.
        """
        if self._best is None:
            raise ValueError("best needs one candidate told of, got none; ask and tell first")
        return self._best

    @property
    def plain(self) -> dict[str, float]:
        """Fitness of the plain rankings that are told of, by saliency."""
        known = {base: self.fitness_of(candidate) for base, candidate in self._plain.items()}
        return {base: fitness for base, fitness in known.items() if fitness is not None}

    @property
    def is_plain_told(self) -> bool:
        """Whether all plain rankings are told of."""
        return len(self.plain) == len(self._plain)

    def next_plain(self) -> Candidate | None:
        """A plain ranking that was not given out yet."""
        return next(filter(self.is_new, self._plain.values()), None)

    def fitness_of(self, candidate: Candidate) -> float | None:
        """What a candidate of the same outcome was judged at."""
        return self._fitness.get(self._outcome(candidate))

    def is_new(self, candidate: Candidate) -> bool:
        """Whether no candidate of the same outcome was given out."""
        outcome = self._outcome(candidate)
        return outcome not in self._fitness and outcome not in self._pending

    def ask(self, candidate: Candidate) -> Candidate:
        """Write down that ``candidate`` is given out."""
        self._pending.add(self._outcome(candidate))
        return candidate

    def tell(self, candidate: Candidate, fitness: float, *, is_rejected: bool = False) -> float:
        """Write down what it was judged at; NaN, which is returned as infinity, is as bad."""
        fitness = math.inf if math.isnan(fitness) else fitness
        outcome = self._outcome(candidate)
        self._pending.discard(outcome)
        self._fitness[outcome] = fitness
        self.num_told += 1
        if not is_rejected and (self._best is None or fitness < self._best[1]):
            self._best = candidate, fitness
        return fitness
