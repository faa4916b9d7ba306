import signal
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy, FSDPStrategy, SingleDeviceStrategy
from torch import nn

from lightning_cost.network.lineage import CHECKPOINT_KEY, Change, lineage_of, lineage_to_list
from lightning_cost.network.structural import (
    apply_during_fit,
    check_shapes,
    install_replay,
    network_state,
    on_rank_zero,
    require_changeable,
    uninterrupted,
)
from tests.monitor.halving import Classifier, Halve, KeepHidden, loader, make_trainer

HALF = KeepHidden(kept=(0, 1, 2, 3))


def trainer_like(strategy, *callbacks, module=None, optimizers=()):
    """What these functions ask a Trainer for."""
    return SimpleNamespace(
        strategy=strategy,
        callbacks=list(callbacks),
        lightning_module=module,
        optimizers=list(optimizers),
    )


def single():
    return SingleDeviceStrategy(torch.device("cpu"))


@pytest.mark.parametrize("strategy", [single(), DDPStrategy()], ids=["single", "ddp"])
def test_whole_parameters_can_be_changed(strategy):
    require_changeable(trainer_like(strategy, pl.callbacks.EarlyStopping("loss")))


def test_sharded_parameters_cannot():
    message = "strategy must keep whole parameters .* got FSDPStrategy; compress with"
    with pytest.raises(ValueError, match=message):
        require_changeable(trainer_like(FSDPStrategy()))


def test_optimizers_follow_a_change():
    module = Classifier()
    network = module.network
    first = torch.optim.SGD(network[0].parameters(), lr=0.1)
    second = torch.optim.Adam(network[2].parameters())
    trainer = trainer_like(single(), module=module, optimizers=[first, second])
    apply_during_fit(trainer, network, HALF)
    assert lineage_of(network) == (HALF,)
    assert [id(p) for p in first.param_groups[0]["params"]] == [
        id(p) for p in network[0].parameters()
    ]
    assert [id(p) for p in second.param_groups[0]["params"]] == [
        id(p) for p in network[2].parameters()
    ]


@pytest.fixture
def listening():
    """Python's own handler of ctrl-C: jobs in the background start without it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_waits_for_the_change_to_be_complete(listening):
    module, optimizer_saw = Classifier(), []
    network = module.network

    class Interrupted(Change):
        kind = "test_interrupted"

        def apply(self, network):
            signal.raise_signal(signal.SIGINT)
            swaps = HALF.apply(network)
            optimizer_saw.append("applied")
            return swaps

        def to_dict(self):
            return {}

        @classmethod
        def from_dict(cls, data):
            return cls()

    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    trainer = trainer_like(single(), module=module, optimizers=[optimizer])
    with pytest.raises(KeyboardInterrupt):
        apply_during_fit(trainer, network, Interrupted())
    assert optimizer_saw == ["applied"]
    assert len(lineage_of(network)) == 1
    held = {id(p) for p in optimizer.param_groups[0]["params"]}
    assert held == {id(p) for p in network.parameters()}
    assert signal.getsignal(signal.SIGINT) is listening


class Ranks:
    """A strategy of two ranks, of which one acts: what is broadcast is what rank 0 had."""

    def __init__(self, from_zero=None):
        self.from_zero, self.sent = from_zero, []

    def broadcast(self, value):
        self.sent.append(value)
        return value if self.from_zero is None else self.from_zero


def rank(number, strategy):
    return SimpleNamespace(is_global_zero=number == 0, world_size=2, strategy=strategy)


def test_rank_zero_decides_for_all():
    zero = Ranks()
    assert on_rank_zero(rank(0, zero), lambda: {"width": 4}) == {"width": 4}

    def not_here():
        raise AssertionError("rank 1 must not decide")

    assert on_rank_zero(rank(1, Ranks(zero.sent[0])), not_here) == {"width": 4}


def test_an_error_of_rank_zero_is_raised_on_every_rank():
    def refuse():
        raise ValueError("macs must be reachable")

    zero = Ranks()
    with pytest.raises(ValueError, match="macs must be reachable"):
        on_rank_zero(rank(0, zero), refuse)
    with pytest.raises(ValueError, match="macs must be reachable"):
        on_rank_zero(rank(1, Ranks(zero.sent[0])), refuse)


def test_a_single_rank_keeps_the_error_as_it_is():
    class OwnError(ValueError):
        pass

    def refuse():
        raise OwnError("here")

    alone = SimpleNamespace(is_global_zero=True, world_size=1, strategy=Ranks())
    with pytest.raises(OwnError, match="here"):
        on_rank_zero(alone, refuse)


def test_checkpoints_carry_the_lineage_and_replay_it(tmp_path):
    module = Classifier()
    trainer = make_trainer(tmp_path, [Halve(1)], max_epochs=2)
    trainer.fit(module, loader())
    trainer.save_checkpoint(tmp_path / "end.ckpt", weights_only=False)
    saved = torch.load(tmp_path / "end.ckpt", weights_only=True)
    assert saved[CHECKPOINT_KEY] == {"network": "network", "changes": lineage_to_list((HALF,))}

    again = Classifier()
    make_trainer(tmp_path, [Halve(1)], max_epochs=3).fit(
        again, loader(), ckpt_path=tmp_path / "end.ckpt", weights_only=True
    )
    assert lineage_of(again.network) == (HALF,)


def test_the_modules_own_hooks_still_run():
    class Own(Classifier):
        def on_save_checkpoint(self, checkpoint):
            checkpoint["own"] = 1

        def on_load_checkpoint(self, checkpoint):
            self.loaded = checkpoint["own"]

    module = Own()
    install_replay(module, "network")
    install_replay(module, "network")  # as by a second callback
    checkpoint = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    assert checkpoint[CHECKPOINT_KEY]["changes"] == []
    module.on_load_checkpoint(checkpoint)
    assert module.loaded == 1


def test_a_checkpoint_without_lineage_is_of_the_dense_network():
    module = Classifier()
    install_replay(module, "network")
    module.on_load_checkpoint({"state_dict": Classifier().state_dict()})
    assert lineage_of(module.network) == ()


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        (nn.Linear(4, 3), r"'weight' with \(3, 4\) in the checkpoint and \(2, 4\) in the network"),
        (nn.Linear(4, 2, bias=False), r"'bias' with nothing of that name in the checkpoint"),
        (nn.Bilinear(1, 4, 2), r"'weight' with \(2, 1, 4\) in the checkpoint"),
        (nn.Sequential(nn.Linear(4, 2)), r"'weight' with nothing of that name in the checkpoint"),
    ],
)
def test_another_architecture_is_named_by_its_first_difference(theirs, message):
    with pytest.raises(ValueError, match=message):
        check_shapes(nn.Linear(4, 2), theirs.state_dict())


def test_an_entry_too_many():
    state = {**nn.Linear(4, 2).state_dict(), "extra": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"'extra' with \(1,\) in the checkpoint and nothing of"):
        check_shapes(nn.Linear(4, 2), state)


def test_the_part_of_a_state_that_belongs_to_a_submodule():
    state = {"net.a": 1, "net.b.c": 2, "network.a": 3, "loss": 4}
    assert network_state(state, "net") == {"a": 1, "b.c": 2}
    assert network_state(state, "") == state


def test_an_interrupt_waits_for_the_outermost_block(listening):
    """A callback's note of a change stands in one block with the change itself."""
    done = []

    def change_and_note():
        with uninterrupted():
            with uninterrupted():
                signal.raise_signal(signal.SIGINT)
                done.append("changed")
            done.append("noted")

    with pytest.raises(KeyboardInterrupt):
        change_and_note()
    assert done == ["changed", "noted"]
