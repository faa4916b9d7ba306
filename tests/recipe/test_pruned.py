"""What the report says of a pruning is what the fit did."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.monitor.callback import CostMonitor
from lightning_cost.pruning.callback import GlobalRankingPruning
from lightning_cost.pruning.ranking import GlobalRanking
from lightning_cost.recipe.layers import layer_widths
from lightning_cost.recipe.pruned import cuts_of, global_ranks, pruning_record, search_of
from tests.integration import setting

EXAMPLE = torch.zeros(1, 1, 8, 8)


def entry_of(trainer, kind):
    return next(entry for entry in trainer.callbacks if isinstance(entry, kind))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A trainer after a short fit, its module, and a dense network of the same form."""
    module, data = setting.module(), setting.data()
    trainer = setting.trainer(
        tmp_path_factory.mktemp("fit"), setting.callbacks(quantize=None), limit_train_batches=4
    )
    trainer.fit(module, datamodule=data)
    return trainer, module, setting.module()


@pytest.fixture(scope="module")
def record(fitted):
    trainer, _, dense = fitted
    data = trainer.datamodule
    return pruning_record(
        trainer,
        dense.network.eval(),
        EXAMPLE,
        dense_cost=entry_of(trainer, CostMonitor).dense,
        metric="val/accuracy",
        batches=list(data.val_dataloader()),
    )


def test_groups_keep_what_the_layers_kept(fitted, record):
    _, module, dense = fitted
    widths = layer_widths(dense.network, module.network)
    seen = set()
    for group in record["groups"]:
        for layer in set(group["layers"]) & set(widths):
            assert widths[layer] == (len(group["ranks"]), group["kept"])
            seen.add(layer)
    assert set(widths) - seen == set(record["left_alone"]) & set(widths)
    assert record["left_alone"]["classifier"] == "its channels are the network's output"


def test_groups_stand_in_the_order_of_the_network(fitted, record):
    names = [name for name, _ in fitted[2].network.named_modules()]
    firsts = [min(map(names.index, group["layers"])) for group in record["groups"]]
    assert firsts == sorted(firsts)


def test_ranks_number_all_channels_once(record):
    ranks = [rank for group in record["groups"] for rank in group["ranks"]]
    assert sorted(ranks) == list(range(len(ranks)))
    assert all(group["ranks"] == sorted(group["ranks"]) for group in record["groups"])


def test_steps_end_at_what_is_kept(record):
    kept = [group["kept"] for group in record["groups"]]
    made = [step for step in record["steps"] if step["is_made"]]
    assert made[-1]["kept"] == kept
    assert [step["epoch"] for step in record["steps"]] == [2, 3]
    sums = [sum(step["kept"]) for step in record["steps"]]
    assert sums == sorted(sums, reverse=True)


def test_steps_that_were_taken_back_are_not_made(fitted, monkeypatch):
    trainer, _, dense = fitted
    monkeypatch.setattr(GlobalRankingPruning, "num_steps_made", 1)
    steps = cuts_of(entry_of(trainer, GlobalRankingPruning), dense.network)["steps"]
    assert [step["is_made"] for step in steps] == [True, False]


def test_search_has_every_candidate(fitted, record):
    trials = record["search"]["trials"]
    assert len(trials) == 6
    assert not record["search"]["is_reused"]
    assert min(t["loss"] for t in trials if not t["is_rejected"]) == trials[-1]["best"]


def test_frontier_passes_through_the_network_of_the_fit(fitted, record):
    """The fit's budget was half of the MACs; the frontier has that network, exactly."""
    trainer, _, _ = fitted
    cost = entry_of(trainer, CostMonitor).cost
    half = [p for p in record["frontier"] if p["cost"]["macs"]["value"] == cost["macs"].value]
    assert len(half) == 1
    assert half[0]["cost"]["size_bytes"]["value"] == cost["size_bytes"].value
    assert 0 <= half[0]["metrics"]["val/accuracy"] <= 1


def test_a_given_ranking_was_not_searched(fitted, monkeypatch):
    trainer, _, dense = fitted
    pruning = entry_of(trainer, GlobalRankingPruning)
    monkeypatch.setattr(pruning._progress, "planned", replace(pruning.planned, trials=[]))
    assert search_of(pruning) is None
    assert cuts_of(pruning, dense.network)["groups"]


def test_a_search_that_another_run_had_made(fitted, monkeypatch):
    pruning = entry_of(fitted[0], GlobalRankingPruning)
    assert not search_of(pruning)["is_reused"]
    monkeypatch.setattr(pruning._progress, "planned", replace(pruning.planned, is_reused=True))
    assert search_of(pruning)["is_reused"]


def test_no_pruning(tmp_path):
    trainer = setting.trainer(tmp_path, setting.callbacks(prune=False))
    dense = setting.module().network
    made = pruning_record(trainer, dense, EXAMPLE, dense_cost={}, metric="acc", batches=[])
    assert made is None


@given(st.dictionaries(st.sampled_from("abcd"), st.lists(st.integers(0, 5), min_size=1)))
def test_ranks_are_those_of_the_removal_path(scores):
    ranking = GlobalRanking(scores={name: tuple(map(float, own)) for name, own in scores.items()})
    ranks = global_ranks(ranking)
    path = ranking.path()
    # every position but those of the protected last channels removes the next one in order
    order = sorted((rank, name) for name, own in ranks.items() for rank in own[:-1])
    gone = [
        path.names[column]
        for _, column in zip(*np.nonzero(-np.diff(path.widths, axis=0)), strict=True)
    ]
    assert gone == [name for _, name in order]
