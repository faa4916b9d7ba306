"""The dense network that a run started from, kept for comparison."""

from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import nn
from typing_extensions import override

from lightning_cost.network.checkpoint import read_tensors
from lightning_cost.network.find import find_network
from lightning_cost.network.lineage import lineage_of
from lightning_cost.network.structural import check_shapes, on_rank_zero
from lightning_cost.network.whole_file import whole_file


class DenseSnapshot(pl.Callback):
    """Saves the network's weights at the start and after each epoch, until its structure changes.

    Args:
        path: The file, a ``state_dict`` that loads with ``weights_only=True``.
        network: Path of the network in the LightningModule, where it cannot be found.
    """

    def __init__(self, path: Path, *, network: str | None = None) -> None:
        self.path = path
        self.network = network

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save(trainer, pl_module)
        _, network = find_network(pl_module, self.network)
        if lineage_of(network):
            # here, and not when all training is over
            on_rank_zero(trainer, self._require_there)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save(trainer, pl_module)

    def _save(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        _, network = find_network(pl_module, self.network)
        if trainer.is_global_zero and not lineage_of(network):
            with whole_file(self.path) as file:
                torch.save(network.state_dict(), file)

    def load_into(self, fresh_network: nn.Module) -> nn.Module:
        """The dense network as it was when the first structural change came.

        Raises:
            FileNotFoundError: If the file is gone.
            ValueError: If it is damaged, or of another network.
        """
        state = read_tensors(self.path, "the dense network")
        check_shapes(fresh_network, state)
        fresh_network.load_state_dict(state)
        return fresh_network.eval()

    def _require_there(self) -> None:
        try:
            read_tensors(self.path, "the dense network")
        except FileNotFoundError as error:
            raise ValueError(str(error)) from error
