"""What callbacks that change a network tell the other callbacks of the same Trainer."""

from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any, Protocol, runtime_checkable

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, Checkpoint
from torch import nn


@runtime_checkable
class StructuralCallback(Protocol):
    """A callback that changes the structure of the network during the fit."""

    @property
    def phase(self) -> str | None:
        """The phase that this callback puts the run in, or ``None`` when it has none now."""

    @property
    def is_finished(self) -> bool:
        """Whether all its changes are made and the training that follows them is over."""

    def preview(self, network: nn.Module, example: Any) -> nn.Module:
        """A network of the structure that this callback will deploy; may change ``network``.

        Only its cost counts: its outputs need not be accurate.
        """


@runtime_checkable
class NeedsFloatingPoint(Protocol):
    """A structural callback whose changes are for a network in floating point alone."""

    @property
    def end_epoch(self) -> int:
        """The first epoch in which it changes nothing; known once the training has started."""


@runtime_checkable
class SharesBudget(Protocol):
    """A structural callback that can leave more or less of a budget to the others."""

    @property
    def has_splits(self) -> bool:
        """Whether there is anything to choose: otherwise nothing else here may be called."""

    @property
    def settled(self) -> Any:
        """The split that was settled on, as plain data; ``None`` before."""

    def splits(
        self, network: nn.Module, example: Any, forward: Callable[[nn.Module], Any]
    ) -> list[Any]:
        """Ways to share the budget, as plain data.

        Args:
            network: Before any change; left as it is.
            example: What one forward pass takes.
            forward: Sends data through a network.
        """

    def settle(self, split: Any) -> None:
        """Let previews, and what is deployed, be of this split; ``None``: of what takes least."""

    def described(self, split: Any) -> dict[str, Any]:
        """What a person should know of a split, as plain data."""

    def rounded(self, network: nn.Module, example: Any, split: Any) -> nn.Module:
        """A copy of ``network`` that computes about what this callback will make of it."""


@runtime_checkable
class SpendsCompute(Protocol):
    """A callback that computes beside the training steps."""

    @property
    def search_flops(self) -> float:
        """FLOPs that it has used so far, resumed runs included."""


@runtime_checkable
class LimitsCompute(Protocol):
    """A callback that limits what the run may use."""

    def may_go_on(self) -> bool:
        """Whether there is room for more of what is going on between two training steps.

        Whoever computes there for long asks again and again, on one rank, and ends early if not.
        """


def callbacks_of(trainer: pl.Trainer) -> list[pl.Callback]:
    """The Trainer's callbacks; a public attribute that Lightning hides from type checkers."""
    return list(trainer.callbacks)  # type: ignore[attr-defined]


def structural_others(trainer: pl.Trainer, own: pl.Callback) -> list[StructuralCallback]:
    """The callbacks of ``trainer`` that change the network, but for ``own``."""
    rest = [callback for callback in callbacks_of(trainer) if callback is not own]
    return [callback for callback in rest if isinstance(callback, StructuralCallback)]


def preview_of(
    callbacks: Iterable[StructuralCallback], example: Any
) -> Callable[[nn.Module], nn.Module]:
    """What ``callbacks``, one after the other, will make of a network, which may be changed."""
    given = tuple(callbacks)

    def preview(network: nn.Module) -> nn.Module:
        return reduce(lambda made, callback: callback.preview(made, example), given, network)

    return preview


def set_callbacks(trainer: pl.Trainer, callbacks: list[pl.Callback]) -> None:
    """Replace the Trainer's callbacks; whoever iterates over the old list is not disturbed."""
    trainer.callbacks = callbacks  # type: ignore[attr-defined]


@runtime_checkable
class RunsAfter(Protocol):
    """A callback that observes what the others did in the same hook."""

    runs_after: int


def run_last(trainer: pl.Trainer) -> None:
    """Put the observing callbacks behind the others, whatever the order of the list was.

    Checkpoint callbacks stay last of all.
    """

    def place(callback: Callback) -> float:
        if isinstance(callback, Checkpoint):
            return float("inf")
        return callback.runs_after if isinstance(callback, RunsAfter) else 0

    set_callbacks(trainer, sorted(callbacks_of(trainer), key=place))
