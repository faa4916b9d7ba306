"""One point of the ranking search: a saliency, and a scale and a shift for each group."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lightning_cost.pruning.ranking import GlobalRanking


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A ranking in the making: ``alpha * saliency + kappa``.

    Args:
        base: Name of the saliency that it transforms.
        alpha: Scale of each group, in the order of the groups.
        kappa: Shift of each group.
    """

    base: str
    alpha: tuple[float, ...]
    kappa: tuple[float, ...]

    @classmethod
    def identity(cls, base: str, num_groups: int) -> "Candidate":
        """The plain ranking by a saliency."""
        return cls(base=base, alpha=(1.0,) * num_groups, kappa=(0.0,) * num_groups)

    @property
    def is_plain(self) -> bool:
        """Whether it is a saliency as it stands."""
        return set(self.alpha) <= {1.0} and set(self.kappa) <= {0.0}

    def ranking(self, bases: Mapping[str, Mapping[str, Tensor]]) -> GlobalRanking:
        """The ranking that this candidate makes of its saliency.

        Args:
            bases: Saliencies by name, with the groups in the order of ``alpha``.
        """
        saliency = bases[self.base]
        return GlobalRanking.transformed(
            saliency,
            dict(zip(saliency, self.alpha, strict=True)),
            dict(zip(saliency, self.kappa, strict=True)),
        )

    def to_dict(self) -> dict[str, Any]:
        """The candidate as JSON-compatible data."""
        return {"base": self.base, "alpha": list(self.alpha), "kappa": list(self.kappa)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Candidate":
        """The inverse of :meth:`to_dict`."""
        return cls(base=data["base"], alpha=tuple(data["alpha"]), kappa=tuple(data["kappa"]))


def deviations(bases: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Sequence[float]]:
    """Standard deviation of each group's scores, by saliency: the natural size of a shift."""
    return {
        name: [float(scores.double().std(unbiased=False)) for scores in saliency.values()]
        for name, saliency in bases.items()
    }
