"""Distillation against a loop written by hand, and everything that must not notice it."""

import copy

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from lightning_cost.network.distillation import (
    Distillation,
    Teaching,
    can_be_taught,
    chosen_distillation,
    distillation_loss,
    frozen,
)
from lightning_cost.network.find import find_network
from lightning_cost.network.teacher import DenseTeacher
from tests.monitor.halving import Classifier, loader, make_trainer


@pytest.mark.parametrize(("shape", "class_dim"), [((5, 4), 1), ((2, 3, 4), -1), ((2, 4, 3, 3), 1)])
def test_the_loss_is_the_divergence_of_softened_probabilities(shape, class_dim):
    logits, taught = torch.randn(2, *shape, dtype=torch.float64)
    p, q = ((x / 3).softmax(class_dim) for x in (taught, logits))
    expected = 9 * (p * (p / q).log()).sum(class_dim).mean()
    found = distillation_loss(logits, taught, temperature=3, class_dim=class_dim)
    torch.testing.assert_close(found, expected.float())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"temperature": 0.0}, "temperature must be > 0, got 0.0"),
        ({"weight": 0.0}, r"weight must lie in \(0, 1\], got 0.0; pass distillation=None"),
        ({"weight": 1.1}, r"weight must lie in \(0, 1\], got 1.1"),
    ],
)
def test_numbers_out_of_range(given, message):
    with pytest.raises(ValueError, match=message):
        Distillation(**given)


def test_auto_is_for_classifiers_and_all_else_is_taken_as_it_is():
    assert chosen_distillation("auto", is_classifier=True) == Distillation()
    assert chosen_distillation("auto", is_classifier=False) is None
    own = Distillation(weight=0.9)
    for given in (own, None):
        assert chosen_distillation(given, is_classifier=True) is given
    with pytest.raises(ValueError, match="distillation must be a Distillation, 'auto' or None"):
        chosen_distillation("car", is_classifier=True)


class Plain(Classifier):
    """Returns its loss in a dict, as one may, and logs nothing."""

    def training_step(self, batch, batch_idx):
        inputs, labels = batch
        return {"loss": cross_entropy(self(inputs), labels), "other": 1}


class Taught(pl.Callback):
    def __init__(self, teacher, settings):
        self.teaching = Teaching(teacher, settings)
        self.outputs = []

    def on_train_start(self, trainer, pl_module):
        self.teaching.start(trainer, find_network(pl_module)[1])

    def on_train_batch_end(self, trainer, pl_module, outputs, *_):
        self.outputs.append(outputs)

    def on_train_end(self, trainer, pl_module):
        self.teaching.stop()


@pytest.fixture
def teacher():
    torch.manual_seed(1)
    return frozen(Classifier(32).network)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch.compile's own
@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("compiled", [None, "wrapped", "in place", "module"])
def test_a_fit_is_the_loop_written_by_hand(tmp_path, teacher, accumulate, compiled):
    if compiled and accumulate > 1:
        pytest.skip("one of them is enough")
    torch.manual_seed(0)
    module = Plain()
    network = copy.deepcopy(module.network)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for _ in range(2):
        for index, (inputs, labels) in enumerate(loader()):
            logits = network(inputs)
            soft = distillation_loss(logits, teacher(inputs), temperature=4.0)
            ((0.25 * cross_entropy(logits, labels) + 0.75 * soft) / accumulate).backward()
            if (index + 1) % accumulate == 0:
                optimizer.step()
                optimizer.zero_grad()

    callback = Taught(teacher, Distillation(temperature=4.0, weight=0.75))
    given = module
    if compiled == "wrapped":
        module.network = torch.compile(module.network, backend="eager", fullgraph=True)
    elif compiled == "in place":
        module.network.compile(backend="eager")
    elif compiled == "module":
        given = torch.compile(module, backend="eager")
    names = list(module.state_dict())
    trainer = make_trainer(tmp_path, [callback], max_epochs=2, accumulate_grad_batches=accumulate)
    trainer.fit(given, loader())
    for found, expected in zip(module.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(found, expected)
    assert list(module.state_dict()) == names
    assert callback.outputs[0]["other"] == 1
    assert "training_step" not in vars(trainer.strategy)
    assert not module.network._forward_hooks
    assert all(parameter.grad is None for parameter in teacher.parameters())


@pytest.mark.filterwarnings("ignore:distillation is left out")
def test_an_output_that_is_no_logits_is_left_alone(tmp_path, teacher):
    class Regression(Classifier):
        def training_step(self, batch, batch_idx):
            return self.network(batch[0])["value"].pow(2).mean()

    class Dict(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 1)

        def forward(self, inputs):
            return {"value": self.layer(inputs)}

    ends = []
    for callbacks in ([], [Taught(teacher, Distillation())]):
        torch.manual_seed(0)
        module = Regression()
        module.network = Dict()
        make_trainer(tmp_path, callbacks, max_epochs=1).fit(module, loader())
        ends.append(module.network.layer.weight)
    assert torch.equal(*ends)


def test_what_can_be_taught():
    assert can_be_taught(torch.zeros(2, 3))
    assert can_be_taught(torch.zeros(2, 5, 3), class_dim=-1)
    for output in (None, torch.zeros(3), torch.zeros(2, 3).long(), torch.zeros(2, 1), [1]):
        assert not can_be_taught(output)


def test_a_teacher_comes_back_from_a_checkpoint():
    torch.manual_seed(0)
    module, settings = Classifier(), Distillation()
    first, second = DenseTeacher(settings), DenseTeacher(settings)
    first.setup(module, module.network)
    assert first.state_dict() is None
    first.learn(module.network)
    second.setup(Classifier(), Classifier().network)
    second.load_state_dict(first.state_dict())
    for name, value in module.network.state_dict().items():
        assert torch.equal(second.state_dict()[name], value)
    first.forget()
    assert first.state_dict() is None


def test_of_two_teachers_the_second_waits(tmp_path):
    class Both(pl.Callback):
        def setup(self, trainer, pl_module, stage):
            self.teachers = [DenseTeacher(Distillation()) for _ in range(2)]
            for each in self.teachers:
                each.setup(pl_module, pl_module.network)
                each.learn(pl_module.network)

        def on_train_start(self, trainer, pl_module):
            first, second = self.teachers
            step = trainer.strategy.training_step
            began = [each.start(trainer, pl_module.network) for each in (first, second)]
            assert [*began, second.is_teaching] == [True, False, False]
            assert first.stop()
            assert second.start(trainer, pl_module.network)
            assert second.stop()
            assert trainer.strategy.training_step == step

    make_trainer(tmp_path, [Both()], max_epochs=1).fit(Plain(), loader())


def test_under_manual_optimisation_there_is_none(caplog):
    module = Classifier()
    module.automatic_optimization = False
    teacher = DenseTeacher(Distillation())
    teacher.setup(module, module.network)
    assert teacher.settings is None
