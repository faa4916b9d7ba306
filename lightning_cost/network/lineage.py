"""The ordered structural changes that made a network, as data that can be replayed.

A compressed network is its fresh architecture plus this list. Checkpoints carry the list, so that
shapes can be rebuilt before weights load, without a pickled module.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import LongTensor, nn

CHECKPOINT_KEY = "lightning_cost_lineage"
_ATTRIBUTE = "_lightning_cost_lineage"


@dataclass(frozen=True, kw_only=True, slots=True)
class ParameterSwap:
    """What one structural change did to one parameter; optimizers follow it.

    Args:
        old: The parameter that left the network; ``None`` for one that is new.
        new: The parameter in its place; ``None`` where it was removed for good.
        kept: For each sliced dimension of ``old``, the positions that ``new`` keeps, in order.
        beside: Of a new parameter the one that it belongs to, such as the weight of a scale: it
            joins its optimizer and group. ``None`` if there is none.
    """

    old: nn.Parameter | None
    new: nn.Parameter | None
    kept: Mapping[int, LongTensor] = field(default_factory=dict)
    beside: nn.Parameter | None = None


class Change(ABC):
    """One structural change of a network: a frozen record that turns to and from JSON.

    Subclasses set ``kind`` and are found by it when a checkpoint is read.
    """

    kind: ClassVar[str]
    _kinds: ClassVar[dict[str, type["Change"]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # dataclass(slots=True) builds the class twice; the second one is the one to keep
        Change._kinds[cls.kind] = cls

    @abstractmethod
    def apply(self, network: nn.Module) -> list[ParameterSwap]:
        """Change ``network`` in place.

        Returns:
            One swap for each parameter that was replaced, removed or added.

        Raises:
            ValueError: If the network is not the one that this change was made for.
        """

    def rebuild(self, network: nn.Module) -> None:
        """As :meth:`apply`, on a network whose every value is loaded right after.

        A change that computes values from those that ``network`` has does not need to here.

        Raises:
            ValueError: If the network is not the one that this change was made for.
        """
        self.apply(network)

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """The record as JSON-compatible data, without ``kind``."""

    @classmethod
    @abstractmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Change":
        """The inverse of :meth:`to_dict`."""


def lineage_of(network: nn.Module) -> tuple[Change, ...]:
    """The changes applied to ``network`` so far, oldest first."""
    return getattr(network, _ATTRIBUTE, ())


def apply_change(network: nn.Module, change: Change) -> list[ParameterSwap]:
    """Apply ``change`` to ``network`` in place and append it to the network's lineage."""
    swaps = change.apply(network)
    set_lineage(network, (*lineage_of(network), change))
    return swaps


def set_lineage(network: nn.Module, lineage: Sequence[Change]) -> None:
    """Write down that ``lineage`` made ``network`` what it is."""
    setattr(network, _ATTRIBUTE, tuple(lineage))


def start_lineage(network: nn.Module) -> tuple[Change, ...]:
    """The lineage of ``network``, written down on it even if it is empty.

    :func:`lineage_of` is slow otherwise, as a module is slow to tell that it lacks an attribute:
    for whoever asks at every step of a training.

    >>> network = nn.Linear(1, 1)
    >>> start_lineage(network) is lineage_of(network)
    True
    """
    lineage = lineage_of(network)
    set_lineage(network, lineage)
    return lineage


def lineage_to_list(lineage: Sequence[Change]) -> list[dict[str, Any]]:
    """A lineage as JSON-compatible data."""
    return [{"kind": change.kind, **change.to_dict()} for change in lineage]


def lineage_from_list(data: Sequence[Mapping[str, Any]]) -> tuple[Change, ...]:
    """The inverse of :func:`lineage_to_list`.

    Raises:
        ValueError: If a record is of a kind that this version does not know, or damaged.
    """
    is_list = isinstance(data, Sequence) and not isinstance(data, str)
    if not is_list or not all(isinstance(record, Mapping) for record in data):
        raise ValueError(
            "a lineage must be a list of records of names and values, got "
            f"{type(data).__name__}; read a checkpoint that lightning-cost wrote"
        )
    changes = []
    for record in data:
        kind = record.get("kind")
        if not isinstance(kind, str) or kind not in Change._kinds:
            known = ", ".join(sorted(Change._kinds))
            raise ValueError(
                f"lineage records must be of a known kind ({known}), got {kind!r}; "
                "read the checkpoint with the version of lightning-cost that wrote it"
            )
        values = {key: value for key, value in record.items() if key != "kind"}
        try:
            changes.append(Change._kinds[kind].from_dict(values))
        except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise ValueError(
                f"lineage records must be as they were written, got a damaged {kind!r} "
                f"({type(error).__name__}: {error}); copy the checkpoint again"
            ) from error
    return tuple(changes)


def replay(network: nn.Module, lineage: Sequence[Change]) -> None:
    """Bring ``network`` in place to the structure that ``lineage`` describes.

    Its values, buffers among them, mean nothing until those of such a network are loaded. Changes
    that the network has already had are not repeated.

    Raises:
        ValueError: If the network's own changes are not the first ones of ``lineage``.
    """
    done = lineage_of(network)
    if lineage_to_list(done) != lineage_to_list(lineage[: len(done)]):
        raise ValueError(
            "the network to load into must be fresh or an earlier stage of the same run, "
            f"got one with {len(done)} other structural changes; build the network anew"
        )
    try:
        for change in lineage[len(done) :]:
            change.rebuild(network)
            set_lineage(network, (*lineage_of(network), change))
    except (LookupError, TypeError, AttributeError, RuntimeError, OverflowError) as error:
        raise ValueError(
            f"a lineage must fit the network, got a {change.kind!r} that does not "
            f"({type(error).__name__}: {error}); build the network anew, and copy the "
            "checkpoint again"
        ) from error
