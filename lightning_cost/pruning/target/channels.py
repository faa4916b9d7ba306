"""Which channels may be removed, and in what steps."""

import math
from dataclasses import dataclass, field

USUAL_MULTIPLE = 8
"""Channels that the vector units of most processors take at once, or a part of them."""


@dataclass(kw_only=True, slots=True)
class ChannelRules:
    """Bounds on what pruning may do to each channel group.

    Args:
        exclude: Names of modules whose channels all stay.
        multiple: Kept channels are a multiple of this where a group has more than that; vector
            units run odd widths as slowly as the next even ones. Heads and whole groups of a
            convolution count by the channels in them. 1 for no rounding; ``None`` for the steps
            of the device that its latency table shows, or 8 without one.
        min_keep_ratio: No group falls below this share of its channels. ``None`` takes half of the
            width ratio at which a uniformly narrower network would keep the budget: global
            rankings starve single layers at hard targets.
    """

    exclude: list[str] = field(default_factory=list)
    multiple: int | None = None
    min_keep_ratio: float | None = None

    def __post_init__(self) -> None:
        if self.multiple is not None and self.multiple < 1:
            raise ValueError(f"multiple must be >= 1, got {self.multiple}; use 1 for no rounding")
        if self.min_keep_ratio is not None and not 0 <= self.min_keep_ratio <= 1:
            raise ValueError(
                f"min_keep_ratio must lie in [0, 1], got {self.min_keep_ratio}; "
                "leave it out to derive it from the budget"
            )

    @property
    def step(self) -> int:
        """What kept channels are a multiple of, where no table says more."""
        return USUAL_MULTIPLE if self.multiple is None else self.multiple

    def step_of(self, block: int) -> int:
        """What the kept channels of a group are a multiple of, each of ``block`` positions.

        >>> ChannelRules(multiple=8).step_of(1), ChannelRules(multiple=8).step_of(64)
        (8, 1)
        """
        return self.step // math.gcd(self.step, block)

    def floor(self, num_channels: int, keep_ratio: float, block: int = 1) -> int:
        """The fewest channels that a group keeps when ``keep_ratio`` of them are protected.

        >>> ChannelRules(multiple=8).floor(64, 0.3)
        24
        """
        step = self.step_of(block)
        wanted = math.ceil(num_channels * keep_ratio / step - 1e-9) * step
        return min(num_channels, max(step, wanted))
