"""Whoever holds an averaged copy of the network, it is found, and nothing else is."""

import copy

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging, StochasticWeightAveraging
from torch.optim.swa_utils import AveragedModel

from lightning_cost.network.averaging import averaged_copies
from lightning_cost.network.lineage import lineage_of
from lightning_cost.network.structural import apply_during_fit
from tests.monitor.halving import Classifier, KeepHidden
from tests.network.test_structural import single, trainer_like


class Holds(pl.Callback):
    def __init__(self, held):
        self.held = held


def found(module, *callbacks):
    return averaged_copies(trainer_like(single(), *callbacks, module=module), module.network)


def test_copies_of_the_module_and_of_the_network():
    module = Classifier()
    whole, part = AveragedModel(module), AveragedModel(module.network)
    copies = found(module, Holds(whole), Holds(part))
    assert [id(c) for c in copies] == [id(whole.module.network), id(part.module)]


def test_lightnings_callbacks(tmp_path):
    for averaging in (EMAWeightAveraging(), StochasticWeightAveraging(0.1)):
        module = Classifier()
        trainer = pl.Trainer(logger=False, callbacks=[averaging], accelerator="cpu")
        averaging.setup(trainer, module, "fit")
        assert [type(copied) for copied in found(module, averaging)] == [type(module.network)]


def test_a_copy_inside_the_module():
    module = Classifier()
    module.ema = AveragedModel(module.network)
    assert [id(copied) for copied in found(module)] == [id(module.ema.module)]


def test_what_averages_nothing_of_this_network():
    module = Classifier()
    other = AveragedModel(torch.nn.BatchNorm1d(3))
    assert found(module, Holds(module), Holds(other), Holds(copy.deepcopy(module.network))) == []


def test_a_teacher_that_a_callback_keeps_stays_as_it_is():
    module, teacher = Classifier(), Classifier()
    trainer = trainer_like(single(), Holds(teacher), module=module)
    apply_during_fit(trainer, module.network, KeepHidden(kept=(1, 4)))
    assert lineage_of(teacher.network) == ()
    assert teacher.network[0].out_features == 8


def test_copies_are_operated_with_the_network():
    module = Classifier()
    averaged = AveragedModel(module)
    change = KeepHidden(kept=(1, 4))
    kept = averaged.module.network[0].weight[[1, 4]].clone()
    trainer = trainer_like(single(), Holds(averaged), module=module)
    apply_during_fit(trainer, module.network, change)
    assert torch.equal(averaged.module.network[0].weight, kept)
    assert lineage_of(averaged.module.network) == lineage_of(module.network) == (change,)
    averaged.update_parameters(module)
