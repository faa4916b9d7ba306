"""When quantisation begins in a fit, beside the fit's length and the other callbacks."""

from collections.abc import Collection
from dataclasses import dataclass

from lightning_cost.network.participants import NeedsFloatingPoint, StructuralCallback


@dataclass(frozen=True, kw_only=True, slots=True)
class Beginning:
    """When quantisation begins.

    Args:
        start: The epoch; ``None``: as soon as the other structural callbacks are finished.
        epochs: Of training with fake quantisers; 0 calibrates alone, at the end of an epoch.
    """

    start: int | None
    epochs: int

    def is_due(self, epoch: int, others: Collection[StructuralCallback], *, is_last: bool) -> bool:
        """Whether it begins before ``epoch``, or has begun by then.

        Args:
            epoch: About to start.
            others: The other structural callbacks.
            is_last: Whether it will not start, as the fit is over.
        """
        if self.start is not None:
            return epoch >= self.start
        if self.epochs == 0 and not others:
            return is_last
        return all(callback.is_finished for callback in others)

    def require_after(self, others: Collection[StructuralCallback]) -> None:
        """Refuse a start at which a network in floating point is still needed.

        Raises:
            ValueError: If another callback is not over by then.
        """
        if self.start is None:
            return
        for callback in others:
            if isinstance(callback, NeedsFloatingPoint) and self.start < callback.end_epoch:
                raise ValueError(
                    f"start must be >= {callback.end_epoch}, as channels can only be removed "
                    "before the network is prepared for quantisation and "
                    f"{type(callback).__name__} is at work until then, got {self.start}; leave "
                    "it out to begin once all else is over"
                )

    def is_missed(self, max_epochs: int | None) -> bool:
        """Whether a fit of so many epochs is over before; ``None`` and -1 are no limit."""
        if self.start is None or max_epochs is None or max_epochs < 0:
            return False
        return self.start + min(self.epochs, 1) > max_epochs
