"""What a checkpoint says of a callback is looked at before a fit goes on from it."""

import warnings

import pytest
import pytorch_lightning as pl
import torch

from lightning_cost.network.lineage import CHECKPOINT_KEY
from lightning_cost.pruning.callback import GlobalRankingPruning
from tests.gauntlet.hostile.callback_states import all_callbacks, checkpoints, fit, go_on

NAN = float("nan")
WARMED_UP, CUT_ONCE, CUT_TWICE = range(3)
DAMAGES = [
    ("CostMonitor", ["meter"], None, "meter must be names and values"),
    ("CostMonitor", ["meter", "seconds"], NAN, "seconds must be a finite number, got nan"),
    ("CostMonitor", ["meter", "train_flops"], -1, "train_flops must be from 0 to"),
    ("CostMonitor", ["meter", "search_flops"], "x", "search_flops must be a finite number"),
    ("CostMonitor", ["meter", "training", "notes"], [1], "notes must be a text"),
    ("CostMonitor", ["tracker", "dense", "macs", "value"], NAN, "value must be a finite number"),
    ("CostMonitor", ["tracker", "dense", "macs", "unit"], "ms", "macs must be in MAC, got 'ms'"),
    ("CostMonitor", ["tracker", "rows"], ["{}"], "KeyError: 'epoch'"),
    ("CostMonitor", ["tracker", "costs"], [], "IndexError"),
    ("GlobalRankingPruning", ["place"], 2.0, "place must be a whole number"),
    ("GlobalRankingPruning", ["num_steps_done"], 9, "num_steps_done must be <= 2"),
    ("GlobalRankingPruning", ["num_steps_done"], 0, "place must be <= num_steps_done"),
    ("GlobalRankingPruning", ["is_halted"], 1, "is_halted must be true or false"),
    ("GlobalRankingPruning", ["num_epochs_done"], 7, "of the epoch that the fit goes on with"),
    ("GlobalRankingPruning", ["planned", "plans"], [], "num_steps_done must be <= 0"),
    ("GlobalRankingPruning", ["planned", "ranking", "scores"], {}, "ranking must be of the groups"),
    ("GlobalRankingPruning", ["planned", "grouping", "sizes"], {}, "KeyError"),
    ("GlobalRankingPruning", ["planned", "trials"], [{}], "TypeError"),
    ("GlobalRankingPruning", ["dense_cost", "macs"], None, "cost must be names and values"),
    ("GlobalRankingPruning", ["snapshot"], {"changes": []}, "KeyError: 'weights'"),
    (
        "QuantizationAwareTraining",
        ["is_begun"],
        True,
        "of its network, which is not quantised",
    ),
    ("QuantizationAwareTraining", ["share_rounded"], NAN, "share_rounded must be a finite number"),
    ("QuantizationAwareTraining", ["teacher"], {}, "must be of the same architecture"),
    ("QuantizationAwareTraining", ["bits", "schemes"], {"x": {"name": "int8"}}, "KeyError: 'x'"),
    ("QuantizationAwareTraining", ["limits"], {"joy": 1.0}, "'joy' is not a valid Resource"),
    ("BudgetStopping", ["stop_reason"], 7, "stop_reason must be a text"),
    ("BudgetStopping", ["forecast", "steps"], [{"flops": None}], "must be a finite number"),
    ("BudgetStopping", ["forecast", "validations"], 7, "validations must be a list, got 7"),
]


@pytest.mark.parametrize(
    ("callback", "path", "value", "message"),
    DAMAGES,
    ids=[f"{name} {'.'.join(path)}" for name, path, *_ in DAMAGES],
)
def test_a_damaged_state_is_refused_by_what_is_wrong_with_it(
    tmp_path, callback, path, value, message
):
    checkpoint = checkpoints()[CUT_ONCE]
    holder = checkpoint["callbacks"][callback]
    for name in path[:-1]:
        holder = holder[name]
    assert path[-1] in holder
    holder[path[-1]] = value
    said = rf"the checkpoint's state of {callback} must be .*{message}.*; go on from another"
    with pytest.raises(ValueError, match=said):
        go_on(checkpoint, tmp_path)


@pytest.mark.parametrize(
    ("place", "other", "message"),
    [
        (CUT_TWICE, WARMED_UP, "of the epoch that the fit goes on with, 3, but 1 were done"),
        (CUT_TWICE, None, "of the epoch that the fit goes on with, 3, but 0 were done"),
        (CUT_ONCE, CUT_TWICE, "network must have . out channels at '.', got"),
    ],
    ids=["earlier", "missing", "later"],
)
def test_the_pruning_of_another_network_is_refused(tmp_path, place, other, message):
    known = checkpoints()
    checkpoint, states = known[place], known[place]["callbacks"]
    if other is None:
        del states["GlobalRankingPruning"]
    else:
        states["GlobalRankingPruning"] = known[other]["callbacks"]["GlobalRankingPruning"]
    with pytest.raises(ValueError, match=message):
        go_on(checkpoint, tmp_path)


def test_the_lineage_of_another_network_is_refused(tmp_path):
    known = checkpoints()
    known[CUT_ONCE][CHECKPOINT_KEY] = known[CUT_TWICE][CHECKPOINT_KEY]
    with pytest.raises(ValueError, match="must be of the same architecture as the network"):
        go_on(known[CUT_ONCE], tmp_path)


@pytest.mark.parametrize("record", [None, "x", {}, {"changes": 7}])
def test_a_damaged_lineage_is_refused_when_a_fit_goes_on(tmp_path, record):
    checkpoint = checkpoints()[CUT_ONCE]
    checkpoint[CHECKPOINT_KEY] = record
    with pytest.raises(ValueError, match=r"lineage must be .*; (go on from another|read a check)"):
        go_on(checkpoint, tmp_path)


@pytest.mark.parametrize("place", [WARMED_UP, CUT_ONCE, CUT_TWICE])
def test_a_whole_one_is_gone_on_with(tmp_path, place):
    go_on(checkpoints()[place], tmp_path)


class _StopWithin(pl.Callback):
    """Ends the fit after the first batch of an epoch, which the Trainer then counts."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_train_batch_end(self, trainer, *_):
        trainer.should_stop = trainer.should_stop or trainer.current_epoch == self.epoch


def saved(trainer, folder):
    """The checkpoint that a Trainer writes now, without what does not go on."""
    path = folder / "saved.ckpt"
    trainer.save_checkpoint(path)
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["callbacks"] = {
        name: state for name, state in checkpoint["callbacks"].items() if "Checkpoint" not in name
    }
    return checkpoint


@pytest.mark.parametrize("epoch", range(4))
def test_one_that_was_stopped_within_an_epoch_is_gone_on_with(tmp_path, epoch):
    trainer = fit(tmp_path, [*all_callbacks(), _StopWithin(epoch)])
    assert trainer.current_epoch == epoch + 1
    go_on(saved(trainer, tmp_path), tmp_path)


def test_the_guard_knows_the_dense_network_of_a_fit_stopped_within_its_last_epoch(tmp_path):
    trainer = fit(tmp_path, [*all_callbacks(), _StopWithin(0)])
    torch.save(saved(trainer, tmp_path), tmp_path / "stopped.ckpt")
    callbacks = all_callbacks()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "the guard is off")
        fit(tmp_path, callbacks, tmp_path / "stopped.ckpt")
    (pruning,) = [each for each in callbacks if isinstance(each, GlobalRankingPruning)]
    assert pruning.state_dict()["dense_metric"] is not None


def test_a_guard_that_cannot_know_the_dense_network_is_told(tmp_path):
    checkpoint = checkpoints()[WARMED_UP]
    checkpoint["callbacks"]["GlobalRankingPruning"]["dense_metric"] = None
    torch.save(checkpoint, tmp_path / "warm.ckpt")
    with pytest.warns(UserWarning, match="the guard is off: val/loss of the dense network is not"):
        fit(tmp_path, all_callbacks(), tmp_path / "warm.ckpt")


def test_going_on_from_the_end_changes_nothing(tmp_path):
    checkpoint = saved(fit(tmp_path, all_callbacks()), tmp_path)
    torch.save(checkpoint, tmp_path / "end.ckpt")
    trainer = fit(tmp_path, all_callbacks(), tmp_path / "end.ckpt")
    for name, value in saved(trainer, tmp_path)["state_dict"].items():
        assert torch.equal(checkpoint["state_dict"][name], value), name
