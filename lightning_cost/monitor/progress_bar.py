"""The cost in the progress bar: for a while after it changed, as short text."""

from collections.abc import MutableMapping
from typing import Any

from lightning_cost.cost.measurement import Cost
from lightning_cost.cost.resource import Resource

NUM_BATCHES_SHOWN = 50
"""Batches of an epoch, and after a change, for which the progress bar shows the cost."""
_SHOWN = {"MACs": Resource.macs, "ms": Resource.latency_ms}


class CostInBar:
    """Shows a cost in a progress bar.

    Only for a while, short and as text: the bar is drawn anew, letter by letter, at each step.

    Attributes:
        hide_at: The batch at which it is to be hidden.
    """

    def __init__(self) -> None:
        self.hide_at = NUM_BATCHES_SHOWN

    def show(self, bar: MutableMapping[str, Any], cost: Cost, batch_idx: int) -> None:
        """Put ``cost`` into ``bar`` at this batch."""
        self.hide_at = batch_idx + NUM_BATCHES_SHOWN
        for word, resource in _SHOWN.items():
            if resource in cost:
                bar[word] = f"{cost[resource].value:.3g}"

    def hide(self, bar: MutableMapping[str, Any]) -> None:
        """Take it out again."""
        for word in _SHOWN:
            bar.pop(word, None)
