"""Averaged copies of the network, which callbacks such as ``EMAWeightAveraging`` keep in step."""

from collections.abc import Iterator

import pytorch_lightning as pl
from pytorch_lightning.callbacks import StochasticWeightAveraging
from torch import nn
from torch.optim.swa_utils import AveragedModel

from lightning_cost.network.participants import callbacks_of


def averaged_copies(trainer: pl.Trainer, network: nn.Module) -> list[nn.Module]:
    """The copies of ``network`` that hold averaged weights: they must change shape as it does.

    Looked for are ``AveragedModel``s of the LightningModule or of ``network`` that a callback of
    the Trainer or the LightningModule itself holds, and the copy that
    ``StochasticWeightAveraging`` holds. A copy that another callback keeps, such as a teacher, is
    its own affair.

    Args:
        trainer: Whose callbacks are asked.
        network: The network that is trained, somewhere in the Trainer's LightningModule.
    """
    module = trainer.lightning_module
    path = next((name for name, part in module.named_modules() if part is network), None)
    copies: list[nn.Module] = []
    for held in _held(trainer):
        if held is module or path is None:
            continue
        averaged = held.module if isinstance(held, AveragedModel) else held
        if type(averaged) is type(module):
            copies.append(averaged.get_submodule(path))
        elif isinstance(held, AveragedModel) and type(averaged) is type(network):
            copies.append(averaged)
    return copies


def _held(trainer: pl.Trainer) -> Iterator[nn.Module]:
    for callback in callbacks_of(trainer):
        is_averaging = isinstance(callback, StochasticWeightAveraging)
        averaged = (AveragedModel, pl.LightningModule) if is_averaging else AveragedModel
        for value in vars(callback).values():
            if isinstance(value, averaged):
                yield value
    for part in trainer.lightning_module.modules():
        if isinstance(part, AveragedModel):
            yield part
