"""How far training with fake quantisers has come, and what stands still by then."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from lightning_cost.cost.plain_data import amount, count, flag
from lightning_cost.quantization.fake_quantizers import freeze_observers
from lightning_cost.quantization.gradual import round_largest
from lightning_cost.quantization.norms import freeze_norms
from lightning_cost.quantization.prepare import share_out_terms
from lightning_cost.quantization.rules import QuantizationRules


class Progress:
    """Counts the epochs of training with fake quantisers, and freezes what is due.

    Args:
        epochs: Of training with fake quantisers; 0 calibrates alone.
        rules: When ranges, batch norms and shares of the weights stand still.

    Attributes:
        is_begun: Whether the network is prepared.
        num_epochs_done: Of ``epochs``.
    """

    def __init__(self, epochs: int, rules: QuantizationRules) -> None:
        self._epochs = epochs
        self._rules = rules
        self.is_begun = False
        self.num_epochs_done = 0
        self._is_frozen = False
        self._are_norms_frozen = False
        self._share_rounded = 0.0

    @property
    def is_finished(self) -> bool:
        """Whether the epochs are over."""
        return self.is_begun and self.num_epochs_done >= self._epochs

    @property
    def is_training(self) -> bool:
        """Whether the epochs have begun and are not over."""
        return self.is_begun and not self.is_finished

    def advance(self, network: nn.Module, averaged: Sequence[nn.Module], part: float) -> None:
        """Do before a step, in place, what is due by then.

        Args:
            network: Prepared.
            averaged: Averaged copies of it, in which the same stands still.
            part: Of the current epoch that is done, in [0, 1].
        """
        done = (self.num_epochs_done + part) / self._epochs
        if not self._is_frozen:
            share_out_terms(network, averaged)
        share = self._rules.share_rounded(done)
        if share > self._share_rounded:
            round_largest(network, share, averaged)
            self._share_rounded = share
        if not self._is_frozen and done >= self._rules.freeze_after:
            for each in (network, *averaged):
                freeze_observers(each)
            self._is_frozen = True
        if not self._are_norms_frozen and done >= self._rules.freeze_norms_after:
            for each in (network, *averaged):
                freeze_norms(each)
            self._are_norms_frozen = True

    def state_dict(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {
            "is_begun": self.is_begun,
            "is_frozen": self._is_frozen,
            "are_norms_frozen": self._are_norms_frozen,
            "share_rounded": self._share_rounded,
            "num_epochs_done": self.num_epochs_done,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave; other entries are left to others.

        Raises:
            ValueError: If an entry is of another type than was written.
        """
        self.is_begun = flag(state_dict["is_begun"], "is_begun")
        self._is_frozen = flag(state_dict["is_frozen"], "is_frozen")
        self._are_norms_frozen = flag(state_dict["are_norms_frozen"], "are_norms_frozen")
        self._share_rounded = amount(state_dict["share_rounded"], "share_rounded")
        self.num_epochs_done = count(state_dict["num_epochs_done"], "num_epochs_done")
