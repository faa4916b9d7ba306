"""One search for a ranking inside a fit: on all its ranks, and remembered on disk."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lightning_cost.budget.model import ModelBudget
from lightning_cost.cost.duplicate import duplicated
from lightning_cost.network.ranks import Ranks
from lightning_cost.pruning.batches import BatchLoss, SearchData
from lightning_cost.pruning.search.evolution import EvolutionSearch
from lightning_cost.pruning.search.fitness import Judge
from lightning_cost.pruning.search.judges import Judges
from lightning_cost.pruning.search.loop import (
    LearnedRanking,
    learn_ranking,
    search_fingerprint,
    usual_judge,
)
from lightning_cost.pruning.search.memory import SearchMemory, find_memory, shared_memory
from lightning_cost.pruning.structure.grouping import Grouping
from lightning_cost.pruning.target.problem import PruningProblem


@dataclass(kw_only=True, slots=True)
class SharedSearch:
    """One search for all runs that prune the same trained network to different budgets.

    Args:
        folder: Where what was judged is kept; the second run finds it there and judges nothing.
        budget: The tightest of their budgets, which the ranking is learned for: it serves the
            looser ones. Empty: each run's own.
    """

    folder: str
    budget: ModelBudget


class SearchRun:
    """The search of one fit. Rank 0 enters it and learns; the others serve meanwhile.

    Args:
        settings: How long to search.
        loss: Mean loss of a network on a batch.
        seed: Of the candidates.
        to_device: Brings a batch to where the network of this rank is.
        ranks: Who takes part.

    Attributes:
        settings: As given.
        loss: As given.
    """

    def __init__(
        self,
        settings: EvolutionSearch,
        loss: BatchLoss,
        *,
        seed: int,
        to_device: Callable[[Any], Any],
        ranks: Ranks | None = None,
    ) -> None:
        self.settings = settings
        self.loss = loss
        self._seed = seed
        self._to_device = to_device
        self._ranks = ranks or Ranks()
        self._judges = Judges(self._ranks)

    def __enter__(self) -> "SearchRun":
        self._judges.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._judges.__exit__(*error)

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which decides."""
        return self._ranks.is_first

    def serve(self, network: nn.Module) -> None:
        """Judge for rank 0 until it needs no more; on the other ranks.

        Args:
            network: As on rank 0; where the two differ, such as in buffers, rank 0's counts.

        Raises:
            RuntimeError: If rank 0 failed by an error that is not told otherwise.
        """

        def make_judge(given: Any) -> Judge:
            grouping, data, state = given
            copied = duplicated(network)
            copied.load_state_dict(state)
            data = data.to(self._to_device)
            return usual_judge(copied, Grouping.from_dict(grouping), data, self.loss, self.settings)

        self._judges.serve(make_judge)

    def on_device(self, data: SearchData) -> SearchData:
        """``data`` where rank 0 judges."""
        return data.to(self._to_device)

    def learn(
        self,
        problem: PruningProblem,
        data: SearchData,
        *,
        folders: Sequence[Path],
        shared_as: str | None = None,
        may_go_on: Callable[[float], bool],
    ) -> tuple[LearnedRanking, SearchMemory]:
        """Learn a ranking on rank 0, with the help of the others.

        Args:
            problem: What is pruned, and the limits to learn for.
            data: On the CPU.
            folders: Where the search may have left what it had judged, and where it will.
            shared_as: Under which name this run is known to others that use the first of
                ``folders`` at the same time; who comes second waits, and finds what the first has
                judged. ``None``: there are no others.
            may_go_on: See :func:`learn_ranking`.

        Returns:
            The ranking, and what was judged.
        """
        network = problem.network
        own_data = self.on_device(data)
        own = usual_judge(network, problem.grouping, own_data, self.loss, self.settings)
        given = None
        if self._ranks.num_ranks > 1:
            state = {name: value.cpu() for name, value in network.state_dict().items()}
            given = (problem.grouping.to_dict(), data, state)
        self._judges.appoint(lambda _: own, given)
        generator = torch.Generator().manual_seed(self._seed)
        name = search_fingerprint(
            problem,
            self.settings,
            data=data,
            loss=self.loss,
            generator=generator,
        )
        opened = (
            nullcontext(find_memory(folders, name))
            if shared_as is None
            else shared_memory(folders[0], name, run=shared_as)
        )
        with opened as memory:
            learned = learn_ranking(
                problem,
                self.settings,
                data=own_data,
                loss=self.loss,
                generator=generator,
                may_go_on=may_go_on,
                judges=self._judges,
                memory=memory,
            )
        return learned, memory
