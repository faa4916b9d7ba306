"""The processes of one fit, and what they tell each other."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import pytorch_lightning as pl
import torch
import torch.distributed as dist

_T = TypeVar("_T")


class OnFirstRank(Protocol):
    """How ranks agree: what a function returns, or raises, on rank 0, on all of them."""

    def __call__(self, function: Callable[[], _T], /) -> _T:
        """Call ``function`` on rank 0; on every rank its result, or its error."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those of the fit.

    Args:
        rank: Its number.
        num_ranks: How many there are.

    >>> Ranks().gather("alone")
    ['alone']
    """

    rank: int = 0
    num_ranks: int = 1

    @classmethod
    def here(cls) -> "Ranks":
        """The ranks of ``torch.distributed``, or one alone where it is not in use."""
        if not (dist.is_available() and dist.is_initialized()):
            return cls()
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that decides."""
        return self.rank == 0

    def broadcast(self, value: _T) -> _T:
        """What rank 0 gives, on every rank; to be called on all of them."""
        if self.num_ranks == 1:
            return value
        values: list[Any] = [value]
        dist.broadcast_object_list(values, src=0)
        given: _T = values[0]
        return given

    def gather(self, value: _T) -> list[_T]:
        """What each rank gives, in order, on every rank; to be called on all of them."""
        if self.num_ranks == 1:
            return [value]
        values: list[Any] = [None] * self.num_ranks
        dist.all_gather_object(values, value)
        return values


def sum_over_ranks(trainer: pl.Trainer, device: torch.device, own: float) -> float:
    """The sum of what the ranks give, on every rank; to be called on all of them.

    Args:
        trainer: Of the fit.
        device: Where this rank's tensors are.
        own: What this rank gives.
    """
    given = torch.tensor(own, dtype=torch.float64, device=device)
    return float(trainer.strategy.reduce(given, reduce_op="sum"))
