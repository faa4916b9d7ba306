"""Rankings against one-at-a-time removal."""

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
    plain, rounded = ranking.path(), ranking.path(multiple=multiple)
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
    with pytest.raises(ValueError, match="multiple must be >= 1, got 0"):
        GlobalRanking(scores={"a": (1.0,)}).path(multiple=0)
