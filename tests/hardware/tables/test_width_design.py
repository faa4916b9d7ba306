import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.hardware.tables.width_design import width_design

totals = st.lists(st.integers(1, 200), min_size=1, max_size=8).map(np.array)


def design(totals, num_networks, seed=0):
    return width_design(totals, num_networks, np.random.default_rng(seed))


@given(totals=totals, num_networks=st.integers(1, 30), seed=st.integers(0, 5))
def test_widths_lie_between_one_and_all(totals, num_networks, seed):
    found = design(totals, num_networks, seed)
    assert found.shape == (num_networks, len(totals))
    assert found.dtype == np.int64
    assert ((found >= 1) & (found <= totals)).all()
    assert (found[0] == totals).all()


@given(totals=totals, short=st.integers(1, 10), more=st.integers(0, 10))
def test_a_longer_design_begins_with_the_shorter(totals, short, more):
    assert (design(totals, short + more)[:short] == design(totals, short)).all()


def test_narrow_and_wide_aligned_and_odd_widths_all_occur():
    found = design(np.full(12, 128), 240)
    shares = found.mean(axis=1) / 128
    assert shares.min() < 0.12
    assert shares.max() == 1
    assert np.histogram(shares, bins=5, range=(0, 1))[0].min() > 10
    odd, aligned = (found % 2 == 1).mean(), (found % 16 == 0).mean()
    assert 0.1 < odd < 0.3
    assert 0.3 < aligned < 0.8
    # groups are not all alike, or the layers could not be told apart
    assert np.median(found.std(axis=1) / found.mean(axis=1)) > 0.2
    assert len(np.unique(found, axis=0)) > 230
