"""How a network is quantised, beside the scheme."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lightning_cost.quantization.observers import require_observer
from lightning_cost.quantization.schemes.registry import get_scheme
from lightning_cost.quantization.settings import require_type


@dataclass(kw_only=True, slots=True)
class QuantizationRules:
    """Which layers are quantised how, and how their grids are found.

    Args:
        overrides: Schemes of single layers (a name, or a mapping of a name and settings) by name
            or pattern (``*``, ``?``); the last that matches counts. By default the first and the
            last layer have ``int8`` where the scheme has fewer than 8 bits.
        exclude: Modules that stay in floating point, all within them included.
        observer: How the ranges of activations are found, one of ``OBSERVERS``.
        learns_scales: Whether the scales of weights are trained (LSQ), instead of following them.
        gradual: Shares of each layer's weights, ascending to 1, that are rounded for good one
            after the other, the largest first, as in INQ, whose shares are 0.5, 0.75, 0.875 and 1;
            each has an equal part of the epochs before batch norms are frozen. Empty: all weights
            are rounded from the beginning, and all are trained.
        calibration_samples: Training samples that the first ranges are set from.
        freeze_after: Share of the epochs after which the ranges of activations are frozen.
        freeze_norms_after: Share of the epochs after which batch norms are frozen. Late, when the
            learning rate is next to nothing: a network that does not normalise diverges at the
            rate of one that does.

    Raises:
        ValueError: If a number is out of range, a name unknown, a setting of another type than is
            said here, or ``gradual`` is combined with scales that are learned.
    """

    overrides: dict[str, Any] = field(default_factory=dict)
    exclude: list[str] = field(default_factory=list)
    observer: str = "moving_average"
    learns_scales: bool = False
    gradual: list[float] = field(default_factory=list)
    calibration_samples: int = 512
    freeze_after: float = 0.5
    freeze_norms_after: float = 0.9

    def __post_init__(self) -> None:
        if not isinstance(self.overrides, Mapping):
            raise ValueError(
                "overrides must be schemes by the name or pattern of layers, got "
                f"{self.overrides!r}; write for example {{'stages.*': 'int8'}}"
            )
        for each in self.overrides.values():
            get_scheme(each)
        self._check_exclude()
        require_observer(self.observer)
        require_type("learns_scales", self.learns_scales, False)
        require_type("calibration_samples", self.calibration_samples, 512)
        if self.calibration_samples < 1:
            raise ValueError(
                f"calibration_samples must be >= 1, got {self.calibration_samples}; 512 is usual"
            )
        for name, usual in (("freeze_after", 0.5), ("freeze_norms_after", 0.9)):
            share = getattr(self, name)
            require_type(name, share, usual)
            if not 0 <= share <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {share}; {usual} is usual")
        self._check_gradual()

    @property
    def structure(self) -> dict[str, Any]:
        """What a prepared network is made by, as plain data; the rest may change in a fit."""
        return {
            "overrides": {
                pattern: get_scheme(each).to_dict() for pattern, each in self.overrides.items()
            },
            "exclude": list(self.exclude),
            "observer": self.observer,
            "learns_scales": self.learns_scales,
            "gradual": list(self.gradual),
        }

    def share_rounded(self, done: float) -> float:
        """Share of the weights rounded for good once a share ``done`` of the epochs is over.

        0 where quantisation is not gradual, or else one of :attr:`gradual`.
        """
        if not self.gradual:
            return 0.0
        if done >= self.freeze_norms_after:
            return 1.0
        place = int(len(self.gradual) * done / self.freeze_norms_after)
        # a hair before the end the quotient may be rounded up to the length
        return self.gradual[min(place, len(self.gradual) - 1)]

    def _check_exclude(self) -> None:
        is_list = isinstance(self.exclude, Sequence) and not isinstance(self.exclude, str)
        if not is_list or not all(isinstance(name, str) and name for name in self.exclude):
            raise ValueError(
                f"exclude must be a list of names of modules, got {self.exclude!r}; write for "
                "example ['stem', 'head.0']"
            )

    def _check_gradual(self) -> None:
        shares = self.gradual
        if not isinstance(shares, Sequence):
            raise ValueError(
                f"gradual must be a list of shares, got {shares!r}; INQ has [0.5, 0.75, 0.875, 1]"
            )
        for share in shares:
            require_type("each share of gradual", share, 0.5)
        if not shares:
            return
        ascends = all(low < high for low, high in zip([0.0, *shares], shares, strict=False))
        if not ascends or shares[-1] != 1:
            raise ValueError(
                f"gradual must ascend from above 0 to 1, got {list(shares)}; INQ has "
                "[0.5, 0.75, 0.875, 1]"
            )
        if self.learns_scales:
            raise ValueError(
                "gradual must be empty where learns_scales is true, got both: a weight that is "
                "rounded for good needs a scale that stands still; choose one of them"
            )
