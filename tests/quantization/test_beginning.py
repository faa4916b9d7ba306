from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.quantization.beginning import Beginning


@given(start=st.integers(0, 9), epochs=st.integers(0, 3), max_epochs=st.integers(1, 9))
def test_missed_is_what_is_never_due(start, epochs, max_epochs):
    beginning = Beginning(start=start, epochs=epochs)
    # without epochs of its own it can begin at the end of the last one
    moments = range(max_epochs + 1) if epochs == 0 else range(max_epochs)
    is_due = any(beginning.is_due(epoch, [], is_last=epoch == max_epochs) for epoch in moments)
    assert beginning.is_missed(max_epochs) == (not is_due)
    assert not beginning.is_missed(-1)
    assert not beginning.is_missed(None)
    assert not Beginning(start=None, epochs=epochs).is_missed(max_epochs)


def other(**attributes):
    """Another structural callback."""
    preview = {"preview": lambda network, example: network}
    return SimpleNamespace(phase=None, is_finished=False, **preview, **attributes)


def test_channels_are_removed_before():
    for start in (0, 3):
        with pytest.raises(ValueError, match=rf"start must be >= 4, .* got {start}; leave it out"):
            Beginning(start=start, epochs=1).require_after([other(), other(end_epoch=4)])
    for start in (4, None):
        Beginning(start=start, epochs=1).require_after([other(), other(end_epoch=4)])
    Beginning(start=0, epochs=1).require_after([other()])
