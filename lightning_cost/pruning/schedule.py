"""When pruning steps are due, how far each goes, and where the learning rate goes back."""

import math
from dataclasses import dataclass, replace

SHAPES = ("cubic", "linear", "one_shot")
REWINDS = ("none", "last", "each")
_ROUNDING = 1e-6


@dataclass(kw_only=True, slots=True)
class PruningSchedule:
    """Warm-up, then steps towards the budget with training in between, then recovery.

    Args:
        warmup_epochs: Epochs of dense training; the first step is due at the start of the next.
        num_steps: Steps from the dense network to the target.
        epochs_per_step: Epochs from one step to the next; 0.25 is four steps an epoch.
        recover_epochs: Epochs after the last step; the rest of the one that it falls into is not
            counted.
        shape: How the steps divide the cost between the dense network and the target:
            ``"cubic"``, the early ones long; ``"linear"``; or ``"one_shot"``, a single step
            whatever ``num_steps`` is.
        updates_per_step: Optimizer steps from one step to the next, in place of
            ``epochs_per_step``; under manual optimisation, batches.
        rewind: After which steps the learning rate goes back: ``"none"``, the ``"last"`` or
            ``"each"``. The n epochs after such a step repeat the schedule of the last n epochs of
            the warm-up. It is for schedules that are over by then; where they have an arc of their
            own for recovery, leave it out.

    Raises:
        ValueError: If a number is negative, a word is unknown, or there is no step.

    Reference:
        Rewinding: Renda, Frankle and Carbin, "Comparing Rewinding and Fine-tuning in Neural
        Network Pruning", 2020.
    """

    warmup_epochs: int = 8
    num_steps: int = 4
    epochs_per_step: float = 1
    recover_epochs: int = 8
    shape: str = "cubic"
    updates_per_step: int | None = None
    rewind: str = "none"

    def __post_init__(self) -> None:
        for name, least in (
            ("warmup_epochs", 0),
            ("num_steps", 1),
            ("recover_epochs", 0),
            ("updates_per_step", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(
                    f"{name} must be >= {least}, got {value}; "
                    "see PruningSchedule for what it counts"
                )
        if not self.epochs_per_step > 0:
            raise ValueError(
                f"epochs_per_step must be > 0, got {self.epochs_per_step}; "
                "use shape='one_shot' for a single step"
            )
        for name, known in (("shape", SHAPES), ("rewind", REWINDS)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}; "
                    "see PruningSchedule for what they mean"
                )
        if self.shape == "one_shot":
            self.num_steps = 1

    @property
    def last_step_epoch(self) -> float:
        """Where the last step is due; a fraction is within an epoch.

        Raises:
            ValueError: If it depends on how many batches an epoch has.
        """
        if self.updates_per_step is not None and self.num_steps > 1:
            raise ValueError(
                "epochs_per_step must be given where the length of the schedule is asked for "
                f"before there is data, got updates_per_step={self.updates_per_step}; it may be a "
                "fraction of an epoch"
            )
        return self.warmup_epochs + (self.num_steps - 1) * self.epochs_per_step

    @property
    def end_epoch(self) -> int:
        """The first epoch after recovery: the number of epochs of the whole schedule.

        The epoch that the last step is made in is one of them, also where nothing recovers.

        >>> PruningSchedule(warmup_epochs=1, num_steps=1, recover_epochs=0).end_epoch
        2
        """
        recovered = math.ceil(self.last_step_epoch - _ROUNDING) + self.recover_epochs
        return max(recovered, math.floor(self.last_step_epoch + _ROUNDING) + 1)

    def in_epochs(self, updates_per_epoch: float) -> "PruningSchedule":
        """The same schedule, counted in epochs of so many optimizer steps.

        Raises:
            ValueError: If an epoch has no known length, and the schedule depends on it.
        """
        if self.updates_per_step is None:
            return self
        if not math.isfinite(updates_per_epoch):
            raise ValueError(
                "updates_per_step must be left out where an epoch has no known length, got "
                f"{self.updates_per_step}; set limit_train_batches of the Trainer, or give whole "
                "epochs_per_step"
            )
        share = self.updates_per_step / updates_per_epoch
        return replace(self, epochs_per_step=share, updates_per_step=None)

    def require_within(self, max_epochs: int | None) -> None:
        """Refuse a fit of fewer epochs than the schedule has; ``None`` and -1 are no limit.

        Raises:
            ValueError: If there are too few.
        """
        if max_epochs is not None and 0 <= max_epochs < self.end_epoch:
            raise ValueError(
                f"max_epochs must be >= {self.end_epoch}, where the pruning schedule "
                f"ends, got {max_epochs}; raise it, or shorten the schedule"
            )

    def steps_due(self, epoch: float) -> int:
        """Steps that have been made once so many epochs are over.

        >>> [PruningSchedule(warmup_epochs=2, num_steps=2).steps_due(epoch) for epoch in range(5)]
        [0, 0, 1, 2, 2]
        """
        passed = epoch - self.warmup_epochs + _ROUNDING
        steps = math.floor(passed / self.epochs_per_step) + 1 if passed > 0 else 0
        return min(steps, self.num_steps)

    def fraction(self, step: int) -> float:
        """Share of the way from the dense cost to the target's after ``step`` steps.

        >>> [PruningSchedule(num_steps=2).fraction(step) for step in range(3)]
        [0.0, 0.875, 1.0]
        >>> [PruningSchedule(num_steps=2, shape="linear").fraction(step) for step in range(3)]
        [0.0, 0.5, 1.0]

        Raises:
            ValueError: If there is no such step.

        Reference:
            Zhu and Gupta, "To prune, or not to prune", 2017, equation 1, for the cubic.
        """
        if not 0 <= step <= self.num_steps:
            raise ValueError(
                f"step must lie in [0, {self.num_steps}], got {step}; 0 is the dense network"
            )
        share = step / self.num_steps
        return 1 - (1 - share) ** 3 if self.shape == "cubic" else share

    def phase(self, epoch: int) -> str | None:
        """``"warmup"``, ``"prune"``, ``"recover"``, or ``None`` once the schedule is over."""
        if epoch < self.warmup_epochs:
            return "warmup"
        if epoch < self.last_step_epoch - _ROUNDING:
            return "prune"
        return "recover" if epoch < self.end_epoch else None

    def rewound_epoch(self, step: int) -> int | None:
        """The epoch from whose start on the learning rate is repeated after ``step``, if it is.

        >>> schedule = PruningSchedule(num_steps=2, recover_epochs=3, rewind="last")
        >>> [schedule.rewound_epoch(step) for step in (1, 2)]
        [None, 5]
        """
        is_last = step == self.num_steps
        if self.rewind == "none" or (self.rewind == "last" and not is_last):
            return None
        length = self.recover_epochs if is_last else math.ceil(self.epochs_per_step - _ROUNDING)
        return max(0, self.warmup_epochs - length)

    @property
    def rewound_epochs(self) -> set[int | None]:
        """All epochs from whose start on the learning rate may be repeated."""
        return {self.rewound_epoch(step + 1) for step in range(self.num_steps)}
