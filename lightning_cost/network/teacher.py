"""The dense network of a run as its pruned network's teacher, checkpoints included."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_info
from torch import nn

from lightning_cost.cost.duplicate import duplicated
from lightning_cost.cost.plain_data import entries
from lightning_cost.network.distillation import Distillation, Teaching, frozen, is_taught
from lightning_cost.network.structural import check_shapes


class DenseTeacher:
    """Keeps a frozen copy of a network from one moment of a fit on, and lets it teach.

    The copy belongs to no module: it is in no ``state_dict`` but that of the callback which holds
    this object.

    Args:
        settings: How much it counts; ``None``: not at all.
    """

    def __init__(self, settings: Distillation | None) -> None:
        self.settings = settings
        self._network: nn.Module | None = None
        self._is_ready = False
        self._teaching: Teaching | None = None

    def setup(self, pl_module: pl.LightningModule, network: nn.Module) -> None:
        """Take down the structure of ``network`` before a resumed run replays its changes."""
        if self.settings is not None and not pl_module.automatic_optimization:
            self.settings = None
            rank_zero_info(
                "distillation is left out: under manual optimisation the loss is out of reach; "
                "add network.distillation.distillation_loss in training_step, or pass None"
            )
        if self.settings is not None and self._network is None:
            self._network = frozen(duplicated(network))

    def learn(self, network: nn.Module) -> None:
        """Become a copy of ``network`` as it is now."""
        if self.settings is not None:
            self._network, self._is_ready = frozen(duplicated(network)), True

    @property
    def is_missing(self) -> bool:
        """Whether it is asked for, and there was nothing to learn from."""
        return self.settings is not None and not self._is_ready

    @property
    def is_teaching(self) -> bool:
        """Whether it enters the loss of training steps now."""
        return self._teaching is not None

    def start(self, trainer: pl.Trainer, network: nn.Module) -> bool:
        """Teach ``network`` in the training steps from here on; whether anything began.

        While another teacher does, it does not begin: ask again later.
        """
        if self.settings is None or self._network is None or not self._is_ready:
            return False
        if is_taught(trainer):
            return False
        # of a resumed run it was taken down before the Trainer converted the network
        converted = trainer.precision_plugin.convert_module(self._network)
        teacher = converted.to(trainer.strategy.root_device)
        self._teaching = Teaching(teacher, self.settings)
        self._teaching.start(trainer, network)
        return True

    def stop(self) -> bool:
        """Teach no longer; whether anything ended."""
        if self._teaching is None:
            return False
        self._teaching.stop()
        self._teaching = None
        return True

    def forget(self) -> None:
        """Give the memory back."""
        self._network, self._is_ready = None, False

    def state_dict(self) -> dict[str, Any] | None:
        """The weights of the teacher; ``None`` while there is none."""
        if self._network is None or not self._is_ready:
            return None
        return self._network.state_dict()

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """The inverse of :meth:`state_dict`, after :meth:`setup`.

        Raises:
            ValueError: If it is no ``state_dict`` of the network.
        """
        if state is not None and self._network is not None:
            check_shapes(self._network, entries(state, "teacher"))
            self._network.load_state_dict(state)
            self._is_ready = True
