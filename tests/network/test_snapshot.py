"""After going back, the fit is where it was: weights, moments, and what it does next."""

import copy

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import AveragedModel

from lightning_cost.network.lineage import lineage_of
from lightning_cost.network.snapshot import restore_snapshot, take_snapshot
from lightning_cost.network.structural import apply_during_fit
from lightning_cost.pruning.structure.groups import channel_groups
from lightning_cost.pruning.structure.plan import Plan
from lightning_cost.pruning.structure.surgery import removal
from tests.monitor.halving import Classifier, KeepHidden
from tests.network.test_averaging import Holds
from tests.network.test_structural import single, trainer_like

HALF = KeepHidden(kept=(0, 2, 4, 6))
QUARTER = KeepHidden(kept=(1, 3))


def step(module, optimizer):
    optimizer.zero_grad()
    inputs = torch.linspace(-1, 1, 24).reshape(6, 4)
    module(inputs).pow(2).sum().backward()
    optimizer.step()


@pytest.mark.parametrize(
    "make",
    [
        lambda params: torch.optim.SGD(params, 0.1, momentum=0.9),
        lambda params: torch.optim.Adam(params, amsgrad=True, fused=True),
        lambda params: torch.optim.Adafactor(params),
    ],
)
@pytest.mark.parametrize("first", [None, HALF])
def test_the_next_step_is_as_if_nothing_had_happened(make, first):
    torch.manual_seed(0)
    module = Classifier()
    fresh = copy.deepcopy(module.network)
    averaged, optimizer = AveragedModel(module), make(module.parameters())
    trainer = trainer_like(single(), Holds(averaged), module=module, optimizers=[optimizer])
    if first is not None:
        apply_during_fit(trainer, module.network, first)
    for _ in range(3):
        step(module, optimizer)
        averaged.update_parameters(module)
    snapshot = take_snapshot(trainer, module.network)
    before = copy.deepcopy((averaged.state_dict(), optimizer.state_dict()["state"]))
    step(module, optimizer)
    expected = copy.deepcopy(module.state_dict())
    lineage = lineage_of(module.network)

    apply_during_fit(trainer, module.network, QUARTER)
    step(module, optimizer)
    averaged.update_parameters(module)
    groups = optimizer.param_groups
    restore_snapshot(trainer, module.network, snapshot, fresh)

    assert optimizer.param_groups is groups
    assert lineage_of(module.network) == lineage
    hidden = 8 if first is None else 4
    assert module.network[0].out_features == module.network[2].in_features == hidden
    same(
        averaged.module.state_dict(), {n[7:]: v for n, v in before[0].items() if n[:7] == "module."}
    )
    for position, state in optimizer.state_dict()["state"].items():
        same(state, before[1][position])
    step(module, optimizer)
    same(module.state_dict(), expected)


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(torch.as_tensor(found[name]), torch.as_tensor(value)), name


def test_layers_that_share_a_weight_share_it_still():
    module = pl.LightningModule()
    module.network = network = nn.Sequential(*(nn.Linear(6, 6) for _ in range(4)))
    network[2].weight = network[1].weight
    optimizer = torch.optim.SGD(module.parameters(), 0.1, momentum=0.9)
    trainer = trainer_like(single(), module=module, optimizers=[optimizer])
    fresh, snapshot = copy.deepcopy(network), take_snapshot(trainer, network)
    grouping = channel_groups(network, torch.randn(2, 6))
    kept = {name: tuple(range(4)) for name in grouping.num_channels}
    change = removal(grouping, Plan(kept=kept, num_channels=grouping.num_channels))
    apply_during_fit(trainer, network, change)
    assert network[1].weight.shape == (4, 4)
    restore_snapshot(trainer, network, snapshot, fresh)
    assert network[2].weight is network[1].weight
    assert network[1].weight.shape == (6, 6)
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert held == {id(parameter) for parameter in module.parameters()}


def test_the_learning_rate_goes_on():
    module = Classifier()
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    schedule = OneCycleLR(optimizer, 0.5, total_steps=10)
    trainer = trainer_like(single(), module=module, optimizers=[optimizer])
    fresh, snapshot = copy.deepcopy(module.network), take_snapshot(trainer, module.network)
    apply_during_fit(trainer, module.network, HALF)
    step(module, optimizer)
    schedule.step()
    rate = optimizer.param_groups[0]["lr"]
    restore_snapshot(trainer, module.network, snapshot, fresh)
    assert optimizer.param_groups[0]["lr"] == rate
    step(module, optimizer)
    schedule.step()
    assert optimizer.param_groups[0]["lr"] == schedule.get_last_lr()[0] != rate


def test_other_layers_are_refused():
    module = Classifier()
    trainer = trainer_like(single(), module=module)
    fresh, snapshot = copy.deepcopy(module.network), take_snapshot(trainer, module.network)
    module.network.append(nn.ReLU())
    with pytest.raises(ValueError, match=r"got others: \['3'\]; let quantisation start after"):
        restore_snapshot(trainer, module.network, snapshot, fresh)
