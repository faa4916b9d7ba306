"""A rewound schedule repeats its rates, whatever the scheduler."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch.optim import lr_scheduler as schedules

from lightning_cost.network.learning_rate import learning_rate_state, restore_learning_rate

KINDS = {
    "one cycle": lambda o: schedules.OneCycleLR(o, 0.5, total_steps=12),
    "cosine": lambda o: schedules.CosineAnnealingLR(o, 12),
    "exponential": lambda o: schedules.ExponentialLR(o, 0.7),
    "lambda": lambda o: schedules.LambdaLR(o, lambda step: 1 / (1 + step)),
    "sequential": lambda o: schedules.SequentialLR(
        o, [schedules.ConstantLR(o, 0.1, 4), schedules.ExponentialLR(o, 0.5)], milestones=[4]
    ),
}


def trainer_like(optimizer, scheduler):
    configs = [SimpleNamespace(scheduler=scheduler)]
    return SimpleNamespace(optimizers=[optimizer], lr_scheduler_configs=configs)


def rates(optimizer, scheduler, num_steps):
    seen = []
    for _ in range(num_steps):
        seen.append([(g["lr"], g["momentum"], g["weight_decay"]) for g in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return seen


@pytest.mark.filterwarnings("ignore:The epoch parameter")
@pytest.mark.parametrize("kind", KINDS)
def test_the_rates_repeat(kind):
    first, second = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    groups = [{"params": [first]}, {"params": [second], "lr": 0.3, "weight_decay": 0.1}]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    trainer = trainer_like(optimizer, KINDS[kind](optimizer))
    scheduler = trainer.lr_scheduler_configs[0].scheduler
    rates(optimizer, scheduler, 3)
    saved = learning_rate_state(trainer)
    untouched = copy.deepcopy(saved["groups"])
    expected = rates(optimizer, scheduler, 8)
    for _ in range(2):
        restore_learning_rate(trainer, saved)
        assert rates(optimizer, scheduler, 8) == expected
    assert saved["groups"] == untouched


def test_a_rate_that_is_a_tensor_stays_the_tensor():
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(2))], lr=torch.tensor(0.1))
    trainer = trainer_like(optimizer, schedules.ExponentialLR(optimizer, 0.5))
    rate, saved = optimizer.param_groups[0]["lr"], learning_rate_state(trainer)
    rates_before = float(rate)
    optimizer.step()
    trainer.lr_scheduler_configs[0].scheduler.step()
    assert float(rate) != rates_before
    restore_learning_rate(trainer, saved)
    assert optimizer.param_groups[0]["lr"] is rate
    assert float(rate) == rates_before
