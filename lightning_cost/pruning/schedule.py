"""When pruning steps are due, and how far each goes."""

from dataclasses import dataclass


@dataclass(kw_only=True, slots=True)
class PruningSchedule:
    """Warm-up, then steps towards the budget with training in between, then recovery.

    Args:
        warmup_epochs: Epochs of dense training; the first step is due at the start of the next.
        num_steps: Steps from the dense network to the target.
        epochs_per_step: Epochs from one step to the next.
        recover_epochs: Epochs after the last step.

    Raises:
        ValueError: If a number is negative, or there is no step.
    """

    warmup_epochs: int = 8
    num_steps: int = 4
    epochs_per_step: int = 1
    recover_epochs: int = 8

    def __post_init__(self) -> None:
        for name, least in (
            ("warmup_epochs", 0),
            ("num_steps", 1),
            ("epochs_per_step", 1),
            ("recover_epochs", 0),
        ):
            value = getattr(self, name)
            if value < least:
                raise ValueError(
                    f"{name} must be >= {least}, got {value}; "
                    "see PruningSchedule for what it counts"
                )

    @property
    def last_step_epoch(self) -> int:
        """The epoch at whose start the last step is due."""
        return self.warmup_epochs + (self.num_steps - 1) * self.epochs_per_step

    @property
    def end_epoch(self) -> int:
        """The first epoch after recovery: the number of epochs of the whole schedule."""
        return self.last_step_epoch + self.recover_epochs

    def steps_due(self, epoch: int) -> int:
        """Steps that have been made once ``epoch`` (counted from 0) has started.

        >>> [PruningSchedule(warmup_epochs=2, num_steps=2).steps_due(epoch) for epoch in range(5)]
        [0, 0, 1, 2, 2]
        """
        steps = (epoch - self.warmup_epochs) // self.epochs_per_step + 1
        return min(max(steps, 0), self.num_steps)

    def fraction(self, step: int) -> float:
        """Share of the way from the dense cost to the target's after ``step`` steps.

        Cubic: early steps are long, while there is much to spare, late ones short.

        >>> [PruningSchedule(num_steps=2).fraction(step) for step in range(3)]
        [0.0, 0.875, 1.0]

        Raises:
            ValueError: If there is no such step.

        Reference:
            Zhu and Gupta, "To prune, or not to prune", 2017, equation 1.
        """
        if not 0 <= step <= self.num_steps:
            raise ValueError(
                f"step must lie in [0, {self.num_steps}], got {step}; 0 is the dense network"
            )
        return 1 - (1 - step / self.num_steps) ** 3

    def phase(self, epoch: int) -> str | None:
        """``"warmup"``, ``"prune"``, ``"recover"``, or ``None`` once the schedule is over."""
        if epoch < self.warmup_epochs:
            return "warmup"
        if epoch < self.last_step_epoch:
            return "prune"
        return "recover" if epoch < self.end_epoch else None
