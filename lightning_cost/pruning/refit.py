"""Layers fitted again after a cut inside a fit: in all copies of the network, on all ranks."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from lightning_cost.network.ranks import OnFirstRank
from lightning_cost.pruning.batches import BatchLoss
from lightning_cost.pruning.reconstruction.least_squares import Reconstruction
from lightning_cost.pruning.structure.surgery import RemoveChannels


class Refit:
    """Looks at networks before a cut, and fits them after it.

    Rank 0 looks and fits; the others take over its weights, as they have other data.

    Args:
        networks: The network that is trained and the copies of it that are averaged.
        batch: Gives the data to fit on, see :class:`Reconstruction`; called on rank 0.
        forward: Sends a batch through a network.
        on_first_rank: How ranks agree.
        is_first: Whether this is rank 0.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        batch: Callable[[], Any],
        forward: BatchLoss,
        *,
        on_first_rank: OnFirstRank,
        is_first: bool,
    ) -> None:
        self._networks = networks
        self._on_first_rank = on_first_rank
        self._is_first = is_first
        self._before: list[Reconstruction] = []

        def look() -> None:
            given = batch()
            self._before = [Reconstruction(network, given, forward) for network in networks]

        on_first_rank(look)

    def fit(self, change: RemoveChannels) -> int:
        """Fit all networks, which ``change`` was applied to.

        Returns:
            FLOPs of looking and fitting.
        """
        flops, states = self._on_first_rank(lambda: self._fitted(change))
        if not self._is_first:
            for network, state in zip(self._networks, states, strict=True):
                network.load_state_dict(state)
        return flops

    def _fitted(self, change: RemoveChannels) -> tuple[int, list[dict[str, Any]]]:
        flops = sum(before.flops for before in self._before)
        for before, network in zip(self._before, self._networks, strict=True):
            flops += before.fit(network, change)
        return flops, [network.state_dict() for network in self._networks]
