"""The search inside a fit: killed in its middle, shared, given, and paid for once."""

import contextlib
import itertools
import json
import time

import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from lightning_cost.monitor.callback import CostMonitor
from lightning_cost.pruning.batches import classification_loss
from lightning_cost.pruning.callback import GlobalRankingPruning
from lightning_cost.pruning.ranking import GlobalRanking
from lightning_cost.pruning.schedule import PruningSchedule
from lightning_cost.pruning.search.run import SharedSearch
from tests.integration import setting

LAST = "last.ckpt"


class Killed(BaseException):
    """In place of a kill: no callback may catch it."""


def _callbacks(folder, clock=None, **changes):
    pruning = GlobalRankingPruning(
        setting.ModelBudget(macs=changes.pop("macs", "50%")),
        schedule=PruningSchedule(warmup_epochs=1, num_steps=1, recover_epochs=1),
        search=setting.settings().search,
        channels=setting.settings().channels,
        **changes,
    )
    last = ModelCheckpoint(folder, filename="last", enable_version_counter=False)
    return [CostMonitor(clock=clock or time.monotonic), pruning, last]


def _fit(folder, checkpoint=None, **changes):
    module, callbacks = setting.module(), _callbacks(folder, **changes)
    trainer = setting.trainer(folder, callbacks, max_epochs=2, enable_checkpointing=True)
    given = {} if checkpoint is None else {"ckpt_path": checkpoint, "weights_only": True}
    trainer.fit(module, datamodule=setting.data(), **given)
    return module.network.state_dict(), callbacks[0].update_spend(), callbacks[1]


def _equal(first, second):
    return all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return _fit(tmp_path_factory.mktemp("whole"))


def test_a_fit_that_is_killed_in_its_search_ends_bit_identically(tmp_path, whole):
    weights, spend, _ = whole
    calls = 0

    def killing(network, batch):
        nonlocal calls
        calls += 1
        if calls == 14:
            raise Killed
        return classification_loss(network, batch)

    killing.__module__, killing.__qualname__ = (
        classification_loss.__module__,
        classification_loss.__qualname__,
    )
    with contextlib.suppress(Killed):
        _fit(tmp_path, loss=killing, distillation=None)
    (left,) = tmp_path.glob("search-*.jsonl")
    num_judged = len(left.read_text().splitlines())
    assert num_judged > 0
    found, paid, pruning = _fit(tmp_path, tmp_path / LAST)
    assert pruning.planned.search_note.startswith(
        f"{num_judged} of 6 candidates had been judged before"
    )
    assert _equal(found, weights)
    assert paid.search_flops == spend.search_flops > 0
    assert paid.train_flops == spend.train_flops
    assert not list(tmp_path.glob("search-*.jsonl")), "it ends with the run"


def test_what_is_searched_is_in_the_journal_before_the_search_ends(tmp_path):
    written = []

    def noting(network, batch):
        (journal,) = tmp_path.glob("spend-*.json")
        written.append(json.loads(journal.read_text())["search_flops"])
        return classification_loss(network, batch)

    seconds = itertools.count(0.0, 10.0)
    _, spend, _ = _fit(tmp_path, loss=noting, clock=lambda: next(seconds))
    assert written[0] == 0
    assert 0 < written[-1] < spend.search_flops
    assert written == sorted(written)


def test_a_search_is_shared_by_looser_budgets(tmp_path):
    shared = SharedSearch(folder=str(tmp_path), budget=setting.ModelBudget(macs="30%"))
    rankings, flops, are_reused = [], [], []
    for macs in ("70%", "30%"):
        _, spend, pruning = _fit(tmp_path / macs, macs=macs, shared_search=shared)
        rankings.append(pruning.ranking)
        flops.append(spend.search_flops)
        are_reused.append(pruning.planned.is_reused)
    assert rankings[0] == rankings[1]
    assert are_reused == [False, True]
    assert 0 < 3 * flops[1] < flops[0], "nothing but fitting layers again is left"
    assert pruning.planned.search_note.startswith("6 of 6 candidates had been judged before: ")
    assert len(list(tmp_path.glob("search-*.jsonl"))) == 1


def test_a_shared_search_belongs_to_the_run_that_was_killed_after_it(tmp_path):
    shared = SharedSearch(folder=str(tmp_path), budget=setting.ModelBudget(macs="30%"))
    searched, asked = tmp_path / "0", []

    def killing(pruning, *given):
        asked.append(pruning)
        raise Killed

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Killed):
        patch.setattr("lightning_cost.pruning.planning.step_plans", killing)
        _fit(searched, shared_search=shared)
    assert asked, "the search had ended"
    _, _, pruning = _fit(searched, searched / LAST, shared_search=shared)
    assert pruning.planned.search_note.startswith("6 of 6 candidates had been judged before: ")
    assert not pruning.planned.is_reused
    _, _, pruning = _fit(tmp_path / "1", shared_search=shared)
    assert pruning.planned.is_reused


def test_a_given_ranking_takes_the_place_of_the_search(tmp_path, whole):
    weights, searched, learned = whole
    path = learned.ranking.save(tmp_path / "ranking.json")
    found, spend, pruning = _fit(tmp_path, ranking=path)
    assert _equal(found, weights)
    assert 0 < 3 * spend.search_flops < searched.search_flops
    assert pruning.planned.trials == []
    assert pruning.planned.search_note == "no search: the ranking was given"


def test_a_ranking_of_another_network_is_refused_before_training(tmp_path):
    other = GlobalRanking(scores={"elsewhere": (1.0, 2.0)})
    with pytest.raises(ValueError, match="ranking must be of the network that is pruned"):
        _fit(tmp_path, ranking=other)
    assert not list(tmp_path.glob("*.ckpt"))


def test_plain_loaders_are_searched_on_what_is_given(tmp_path):
    data = setting.data()
    held_out = data.search_dataloader()
    seen = []

    def noting(network, batch):
        seen.append(batch[0])
        return classification_loss(network, batch)

    def fitted(**given):
        callbacks = _callbacks(tmp_path, loss=noting, **given)[1:2]
        trainer = setting.trainer(tmp_path, callbacks, max_epochs=2)
        trainer.fit(setting.module(), data.train_dataloader(), data.val_dataloader())

    fitted(search_data=held_out)
    images, _ = next(iter(held_out))
    assert any(batch.shape == images.shape and torch.equal(batch, images) for batch in seen)
    with pytest.warns(UserWarning, match="the ranking is learned on a part of the training data"):
        fitted()
