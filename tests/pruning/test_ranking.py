"""Rankings against one-at-a-time removal."""

import json
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.pruning.ranking import GlobalRanking
from tests.reference.ranking import remove_lowest

scores = st.dictionaries(
    st.sampled_from("abc"), st.lists(st.integers(0, 5), min_size=1, max_size=5), min_size=1
)


@given(scores, st.dictionaries(st.sampled_from("abc"), st.integers(0, 6)))
def test_identity_is_plain_global_magnitude(values, floors):
    saliency = {name: torch.tensor(group, dtype=torch.float64) for name, group in values.items()}
    path = GlobalRanking.transformed(saliency).path(floors)
    for position in range(len(path)):
        assert path.plan_at(position).kept == remove_lowest(values, position, floors)
    assert path.plan_at(len(path) - 1).kept == remove_lowest(values, 99, floors)


@given(scores, st.integers(1, 4))
def test_rounding_keeps_what_the_plain_path_keeps_and_more(values, multiple):
    ranking = GlobalRanking(scores={name: tuple(group) for name, group in values.items()})
    plain, rounded = ranking.path(), ranking.path(steps=dict.fromkeys(values, multiple))
    for position in range(len(rounded)):
        plan = rounded.plan_at(position)
        for name, width in plan.widths.items():
            assert width % multiple == 0 or width == len(values[name])
        assert any(plain.plan_at(other).is_within(plan) for other in range(len(plain)))
    plans = [rounded.plan_at(position) for position in range(len(rounded))]
    assert all(small.is_within(large) for large, small in pairwise(plans))
    assert len({str(plan.kept) for plan in plans}) == len(plans)
    assert plans[0].keep_ratio == 1.0


def test_scale_and_shift():
    ranking = GlobalRanking.transformed(
        {"a": torch.tensor([1.0, 4.0]), "b": torch.tensor([2.0, 3.0])}, {"a": 2.0}, {"b": -5.0}
    )
    assert ranking.scores == {"a": (2.0, 8.0), "b": (-3.0, -2.0)}
    assert GlobalRanking.from_dict(ranking.to_dict()) == ranking


def test_no_groups_make_a_path_of_one():
    assert len(GlobalRanking(scores={}).path()) == 1


def test_bad_numbers_are_refused():
    with pytest.raises(ValueError, match="scores must be finite, got NaN or infinity in group 'a'"):
        GlobalRanking(scores={"a": (float("nan"),)})
    with pytest.raises(ValueError, match=r"steps\['a'\] must be >= 1, got 0"):
        GlobalRanking(scores={"a": (1.0,)}).path(steps={"a": 0})


RANKING = GlobalRanking(scores={"a": (0.1, 1 / 3), "b": (-2.0,)})


@given(st.dictionaries(st.text(), st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=4)))
def test_a_file_brings_back_every_bit(tmp_path_factory, values):
    ranking = GlobalRanking(scores={name: tuple(group) for name, group in values.items()})
    path = tmp_path_factory.mktemp("ranking") / "new" / "ranking.json"
    assert GlobalRanking.load(ranking.save(path)) == ranking


def test_a_file_that_is_no_ranking_is_refused(tmp_path):
    path = RANKING.save(tmp_path / "ranking.json")
    whole = json.loads(path.read_text())
    refused = {
        "{": "got text that ends or breaks at character 1 in",
        "[1]": "got something else in",
        json.dumps({**whole, "format": "x"}): "got 'x' in",
        json.dumps({**whole, "scores": {"a": [1.0], "b": [1.0]}}): "groups were changed in",
        json.dumps({**whole, "scores": {"a": ["x", 1]}}): "got a damaged one",
        json.dumps({**whole, "scores": [1]}): "got a damaged one",
        json.dumps({**whole, "scores": {"a": [float("nan"), 1]}}): "got NaN, which is no JSON in",
        json.dumps({**whole, "scores": {"a": [True, 1], "b": [1]}}): "got a damaged one",
    }
    for text, message in refused.items():
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            GlobalRanking.load(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="got bytes that are no text"):
        GlobalRanking.load(path)
    path.write_text(json.dumps({**whole, "version": 2}))
    with pytest.raises(ValueError, match="ranking must be of version 1, got 2"):
        GlobalRanking.load(path)
    with pytest.raises(FileNotFoundError, match="ranking must be a file, got"):
        GlobalRanking.load(tmp_path / "none.json")


def test_a_ranking_of_another_network_is_refused():
    RANKING.require_match({"b": 1, "a": 2})
    with pytest.raises(ValueError, match=r"got one with 2 channels in group 'a' .* with 3"):
        RANKING.require_match({"a": 3, "b": 1})
    with pytest.raises(ValueError, match=r"got one with 1 channels in group 'b' .* with no"):
        RANKING.require_match({"a": 2})
    with pytest.raises(ValueError, match=r"got one with no channels in group 'c' .* with 4"):
        RANKING.require_match({"a": 2, "b": 1, "c": 4})
