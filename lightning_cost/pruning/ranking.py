"""The network-wide order of channels, after each group's scale α and shift κ."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from lightning_cost.pruning.path import RemovalPath


@dataclass(frozen=True, kw_only=True, slots=True)
class GlobalRanking:
    """One score per channel, comparable over the whole network; the lowest go first.

    Args:
        scores: By group; one score for each channel.

    Raises:
        ValueError: If a score is NaN or infinite.
    """

    scores: Mapping[str, tuple[float, ...]]

    def __post_init__(self) -> None:
        for name, scores in self.scores.items():
            if not np.isfinite(scores).all():
                raise ValueError(
                    f"scores must be finite, got NaN or infinity in group {name!r}; "
                    "rank the channels of a network whose weights are finite"
                )

    @classmethod
    def transformed(
        cls,
        saliency: Mapping[str, Tensor],
        alpha: Mapping[str, float] | None = None,
        kappa: Mapping[str, float] | None = None,
    ) -> "GlobalRanking":
        """The ranking by ``alpha * saliency + kappa``.

        Without ``alpha`` and ``kappa`` it is the identity: plain global magnitude, where
        ``saliency`` is a norm.

        Reference:
            Chin et al., "Towards Efficient Model Compression via Learned Global Ranking", 2020.
        """
        alpha, kappa = alpha or {}, kappa or {}
        scores = {
            name: values.double().numpy() * alpha.get(name, 1.0) + kappa.get(name, 0.0)
            for name, values in saliency.items()
        }
        return cls(scores={name: tuple(values.tolist()) for name, values in scores.items()})

    def path(self, floors: Mapping[str, int] | None = None, multiple: int = 1) -> RemovalPath:
        """The networks that this ranking passes through, from dense to smallest.

        Channels go in the order of their scores over the whole network, ties in the order of the
        groups. A group's last ``floors[name]`` channels (1 where it is not named) never go. Kept
        counts are rounded up to ``multiple``: a group loses channels only when it can lose the
        whole of a multiple, its highest-ranking ones come back until then.

        Raises:
            ValueError: If ``multiple`` is less than 1.
        """
        if multiple < 1:
            raise ValueError(f"multiple must be >= 1, got {multiple}; use 1 for no rounding")
        floors = floors or {}
        order = {
            name: tuple(np.argsort(scores, kind="stable").tolist())
            for name, scores in self.scores.items()
        }
        scores, groups = [], []
        for place, (name, channels) in enumerate(order.items()):
            floor = max(1, floors.get(name, 1))
            removable = channels[: max(0, len(channels) - floor)]
            scores.append(np.asarray(self.scores[name])[list(removable)])
            groups.append(np.full(len(removable), place))
        if not order:
            return RemovalPath(names=(), order={}, widths=np.zeros((1, 0), dtype=np.int64))
        sequence = np.concatenate(groups)[np.argsort(np.concatenate(scores), kind="stable")]
        totals = np.array([len(channels) for channels in order.values()])
        gone = np.zeros((len(sequence) + 1, len(totals)), dtype=np.int64)
        gone[np.arange(1, len(sequence) + 1), sequence] = 1
        kept = totals - np.cumsum(gone, axis=0)
        return RemovalPath.rounded(order=order, kept=kept, multiple=multiple)

    def to_dict(self) -> dict[str, Any]:
        """The ranking as JSON-compatible data."""
        return {"scores": {name: list(scores) for name, scores in self.scores.items()}}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "GlobalRanking":
        """The inverse of :meth:`to_dict`."""
        return cls(scores={name: tuple(scores) for name, scores in data["scores"].items()})
