"""A candidate's loss step by step, and what is left as it was."""

import copy
import math

import pytest
import torch
from torch import nn

from lightning_cost.pruning.batches import SearchData, classification_loss
from lightning_cost.pruning.reconstruction.recalibration import recalibrate_batch_norm
from lightning_cost.pruning.search.fitness import CutJudge, tune
from lightning_cost.pruning.structure.groups import channel_groups
from lightning_cost.pruning.structure.plan import Plan
from lightning_cost.pruning.structure.surgery import operated, removal
from tests.reference.random_networks import conv, images, randomised

PLAN = Plan(kept={"0.0": (1, 2)}, num_channels={"0.0": 4})


def _network():
    return randomised(
        nn.Sequential(conv(2, 4), nn.ReLU(), nn.Dropout(0.9), nn.Flatten(), nn.Linear(144, 3))
    )


def _batches(*sizes):
    return [
        (images(seed, (size, 2, 6, 6)), torch.arange(size) % 3) for seed, size in enumerate(sizes)
    ]


DATA = SearchData(calibration=_batches(4, 4), search=_batches(4, 7, 3, 2))


def _judged(network, data=DATA, loss=classification_loss, limit=math.inf, **settings):
    judge = CutJudge(network, channel_groups(network, images()), data, loss, **settings)
    return judge(PLAN, flops_per_sample=10.0, limit=limit)


def _loss_by_hand(network, batches, tuned=0):
    candidate = copy.deepcopy(operated(network, removal(channel_groups(network, images()), PLAN)))
    if tuned:
        tune(candidate, DATA.calibration, classification_loss, tuned)
    recalibrate_batch_norm(candidate, DATA.calibration, classification_loss)
    inputs, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    with torch.no_grad():
        return classification_loss(candidate.eval(), (inputs, labels)).item()


@pytest.mark.parametrize("tuned", [0, 3])
def test_the_loss_is_the_mean_over_samples_and_the_network_is_left_alone(tuned):
    network = _network()
    state = copy.deepcopy(network.state_dict())
    drawn = torch.random.get_rng_state()
    found = _judged(network, tune_steps=tuned)
    assert found.loss == found.glance == pytest.approx(_loss_by_hand(network, DATA.search, tuned))
    assert found.flops == 10.0 * (8 + 16 + 3 * 4 * tuned)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert found == _judged(network, tune_steps=tuned)


def test_training_lowers_the_loss_of_what_it_trains_on():
    network, batches = _network().train(), _batches(8)
    network[2].p = 0.0
    before = classification_loss(network, batches[0]).item()
    assert tune(network, batches, classification_loss, 20) == 160
    assert not network.training
    assert classification_loss(network.train(), batches[0]).item() < 0.9 * before


def test_a_first_glance_rejects():
    network = _network()
    whole = _judged(network, glance_ratio=0.5)
    assert whole.glance == pytest.approx(_loss_by_hand(network, DATA.search[:2]))
    assert whole.loss == _judged(network).loss
    assert _judged(network, glance_ratio=0.5, limit=whole.glance) == whole
    rejected = _judged(network, glance_ratio=0.5, limit=whole.glance * 0.999)
    assert rejected.is_rejected
    assert rejected.loss == rejected.glance == whole.glance
    assert rejected.flops == 10.0 * (8 + 11)


class Silencing:
    """Makes every class as likely as the others, in place."""

    def __init__(self):
        self.seen = []

    def fit(self, candidate, change):
        self.seen.append(change)
        nn.init.zeros_(candidate[4].weight)
        nn.init.zeros_(candidate[4].bias)
        return 5.0


def test_a_reconstruction_sees_the_cut_before_it_is_judged_and_only_the_cut():
    network, silencing = _network(), Silencing()
    found = _judged(network, reconstruction=silencing)
    assert found.loss == pytest.approx(math.log(3))
    assert found.flops == 10.0 * 24 + 5.0
    assert silencing.seen == [removal(channel_groups(network, images()), PLAN)]
    assert bool(network[4].weight.any())


@pytest.mark.parametrize("limit", [1.0, math.inf])
def test_nan_and_nothing_to_judge_by_are_infinitely_bad(limit):
    network = _network()
    nan = lambda *_: torch.tensor(float("nan"))  # noqa: E731
    found = _judged(network, loss=nan, limit=limit, glance_ratio=0.5)
    assert found.loss == math.inf
    assert found.is_rejected == (limit < math.inf)
    for nothing in ([], _batches(0)):
        data = SearchData(calibration=DATA.calibration, search=nothing)
        assert _judged(network, data).loss == math.inf
