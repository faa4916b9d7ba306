"""The learning rate of a fit, and what else its schedulers change, at one moment."""

import copy
from typing import Any

import pytorch_lightning as pl
from torch import Tensor


def learning_rate_state(trainer: pl.Trainer) -> dict[str, Any]:
    """The settings of all parameter groups and the state of all schedulers, as plain data."""
    return {
        "groups": [
            [
                {name: value for name, value in group.items() if name != "params"}
                for group in copy.deepcopy(optimizer.state_dict()["param_groups"])
            ]
            for optimizer in trainer.optimizers
        ],
        "schedulers": [
            copy.deepcopy(config.scheduler.state_dict()) for config in trainer.lr_scheduler_configs
        ],
    }


def restore_learning_rate(trainer: pl.Trainer, saved: dict[str, Any]) -> None:
    """Put optimizers and schedulers, in place, back to where :func:`learning_rate_state` was.

    What the optimizers have gathered about gradients stays.
    """
    for optimizer, groups in zip(trainer.optimizers, saved["groups"], strict=True):
        for group, settings in zip(optimizer.param_groups, groups, strict=True):
            for name, value in settings.items():
                if isinstance(group.get(name), Tensor):
                    group[name].copy_(value)  # compiled and fused steps hold on to the tensor
                else:
                    group[name] = copy.deepcopy(value)
    for config, state in zip(trainer.lr_scheduler_configs, saved["schedulers"], strict=True):
        config.scheduler.load_state_dict(copy.deepcopy(state))
