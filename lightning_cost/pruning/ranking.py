"""The network-wide order of channels, after each group's scale α and shift κ."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from lightning_cost.cost.documents import UnreadableError, read_json
from lightning_cost.cost.plain_data import entries, items, number
from lightning_cost.network.whole_file import whole_file
from lightning_cost.pruning.target.path import RemovalPath

_FORMAT = "lightning-cost ranking"
_VERSION = 1


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

    def path(
        self, floors: Mapping[str, int] | None = None, steps: Mapping[str, int] | None = None
    ) -> RemovalPath:
        """The networks that this ranking passes through, from dense to smallest.

        Channels go in the order of their scores over the whole network, ties in the order of the
        groups. A group's last ``floors[name]`` channels (1 where it is not named) never go. Kept
        counts are rounded up to multiples of ``steps[name]``: a group loses channels only when it
        can lose the whole of a step, its highest-ranking ones come back until then.

        Raises:
            ValueError: If a step is less than 1.
        """
        steps = steps or {}
        for name, step in steps.items():
            if step < 1:
                raise ValueError(f"steps[{name!r}] must be >= 1, got {step}; use 1 for no rounding")
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
        return RemovalPath.rounded(order=order, kept=kept, steps=steps)

    def to_dict(self) -> dict[str, Any]:
        """The ranking as JSON-compatible data."""
        return {"scores": {name: list(scores) for name, scores in self.scores.items()}}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "GlobalRanking":
        """The inverse of :meth:`to_dict`.

        Raises:
            ValueError: If a score is no finite number.
        """
        return cls(
            scores={
                name: tuple(float(number(score, "a score")) for score in items(scores, name))
                for name, scores in entries(data["scores"], "scores").items()
            }
        )

    @property
    def num_channels(self) -> dict[str, int]:
        """Channels of each group."""
        return {name: len(scores) for name, scores in self.scores.items()}

    def require_match(self, num_channels: Mapping[str, int]) -> None:
        """Refuse a network with other channel groups.

        Raises:
            ValueError: Names the first group that differs.
        """
        own = self.num_channels
        for name in [*own, *(name for name in num_channels if name not in own)]:
            here, there = num_channels.get(name, "no"), own.get(name, "no")
            if here != there:
                raise ValueError(
                    f"ranking must be of the network that is pruned, got one with {there} channels "
                    f"in group {name!r} for a network with {here}; learn one for this network, "
                    "with the same layers excluded"
                )

    def save(self, path: str | Path) -> Path:
        """Write the ranking to a JSON file, in one step.

        >>> import tempfile
        >>> ranking = GlobalRanking(scores={"conv": (0.5, 2.0)})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     GlobalRanking.load(ranking.save(f"{folder}/ranking.json")) == ranking
        True
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        document = {
            "format": _FORMAT,
            "version": _VERSION,
            "groups": _groups_fingerprint(self.num_channels),
            **self.to_dict(),
        }
        with whole_file(path) as file:
            file.write(json.dumps(document, indent=1).encode())
        return path

    @classmethod
    def load(cls, path: str | Path) -> "GlobalRanking":
        """The ranking that :meth:`save` has written.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is no ranking, damaged, or of another version.
        """
        path = Path(path)
        if not path.exists():
            raise FileNotFoundError(
                f"ranking must be a file, got {str(path)!r}, which is not there; "
                "write one with GlobalRanking.save"
            )
        try:
            document = read_json(path)
            kind, version = document["format"], document["version"]
        except UnreadableError as error:
            raise ValueError(_not_a_ranking(path, str(error))) from error
        except (TypeError, KeyError, OSError) as error:
            raise ValueError(_not_a_ranking(path, "something else")) from error
        if kind != _FORMAT:
            raise ValueError(_not_a_ranking(path, repr(kind)))
        if version != _VERSION:
            raise ValueError(
                f"ranking must be of version {_VERSION}, got {version!r} in {str(path)!r}; "
                "read it with the version of lightning-cost that wrote it, or learn it anew"
            )
        try:
            ranking = cls.from_dict(document)
            is_whole = document["groups"] == _groups_fingerprint(ranking.num_channels)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(_not_a_ranking(path, f"a damaged one ({error})")) from error
        if not is_whole:
            raise ValueError(_not_a_ranking(path, "one whose groups were changed"))
        return ranking


def _groups_fingerprint(num_channels: Mapping[str, int]) -> str:
    return hashlib.sha256(json.dumps(sorted(num_channels.items())).encode()).hexdigest()[:16]


def _not_a_ranking(path: Path, found: str) -> str:
    return (
        f"ranking must be a file that GlobalRanking.save wrote, got {found} in {str(path)!r}; "
        "learn it anew"
    )
