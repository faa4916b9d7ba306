import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.quantization.packing.positions import with_masks, without_masks

positions = st.sets(st.integers(0, 300), max_size=12).map(sorted)
leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(), positions, st.lists(st.integers())
)
names = st.text(st.characters(blacklist_characters="."))
trees = st.recursive(
    leaves, lambda inner: st.lists(inner) | st.dictionaries(names, inner), max_leaves=8
)


@given(trees)
def test_everything_comes_back(data):
    written = json.loads(json.dumps(with_masks(data)))
    assert json.dumps(without_masks(written)) == json.dumps(data)


@pytest.mark.parametrize("data", [[1, 2, 3], [0, 1, 1, 2], [-1, 0, 1, 2], [0, 1, 2, 2**20]])
def test_other_lists_stay(data):
    assert with_masks(data) == data


def test_a_mask_takes_a_bit_for_each_channel():
    assert with_masks([list(range(0, 64, 2))]) == [{".": "5" * 16}]


def test_a_mask_that_is_none():
    with pytest.raises(ValueError, match="invalid literal for int"):
        without_masks({".": "?"})
