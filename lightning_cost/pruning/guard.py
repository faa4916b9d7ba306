"""What happens when pruning costs more quality than is allowed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ACTIONS = ("stop", "roll_back", "go_on")
MODES = ("max", "min")


@dataclass(kw_only=True, slots=True)
class MetricGuard:
    """Watches a validation metric, and acts when pruning makes it too much worse.

    The metric is compared with that of the dense network, as it was validated last before the first
    step. It is judged when the training that follows a pruning step is over: at the end of the
    epoch before the next step, and of recovery. Where nothing was validated since that step, it is
    judged together with the next step, or after the next validation if none follows.

    Args:
        metric: Name of the metric, as the LightningModule logs it in validation.
        max_drop: By how much it may be worse than the dense network's, in its own unit.
        on_drop: ``"stop"`` the fit, ``"roll_back"`` to the network before the step that cost too
            much and go on training that, or ``"go_on"`` and say so. After the first two no further
            step is made, and the budget may be missed.
        mode: Whether the metric is better when large (``"max"``) or when small (``"min"``).

    Raises:
        ValueError: If a word is unknown, or the drop negative.
    """

    metric: str
    max_drop: float
    on_drop: str = "roll_back"
    mode: str = "max"

    def __post_init__(self) -> None:
        if not self.max_drop >= 0:
            raise ValueError(
                f"max_drop must be >= 0, got {self.max_drop}; it is how much worse than the dense "
                f"network {self.metric} may get"
            )
        for name, known in (("on_drop", ACTIONS), ("mode", MODES)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}; "
                    "see MetricGuard for what they mean"
                )

    def require_warmup(self, num_epochs: int) -> None:
        """Refuse a warm-up of no epochs, which leaves no dense network to compare with.

        Raises:
            ValueError: If ``num_epochs`` is 0.
        """
        if not num_epochs:
            raise ValueError(
                "warmup_epochs must be >= 1 where a guard compares with the dense network, got 0; "
                "train one epoch before the first step, or leave the guard out"
            )

    def read(self, logged: Mapping[str, Any]) -> float:
        """The metric among those that are logged.

        Raises:
            ValueError: If it is not one of them.
        """
        if self.metric not in logged:
            raise ValueError(
                "metric must be one that the LightningModule logs in validation, got "
                f"{self.metric!r}; logged are {', '.join(sorted(logged)) or 'none'}"
            )
        return float(logged[self.metric])

    def drop(self, dense: float, now: float) -> float:
        """By how much ``now`` is worse than ``dense``.

        >>> round(MetricGuard(metric="val_acc", max_drop=0.02).drop(0.93, 0.90), 2)
        0.03
        """
        return dense - now if self.mode == "max" else now - dense

    def is_broken(self, dense: float, now: float) -> bool:
        """Whether the drop is too large; a metric that is not a number always is."""
        return math.isnan(now) or self.drop(dense, now) > self.max_drop
