"""What stands in the bar, and until when."""

import pytest

from lightning_cost.cost.measurement import Measurement, Method
from lightning_cost.cost.resource import Resource
from lightning_cost.monitor.progress_bar import NUM_BATCHES_SHOWN, CostInBar

COST = {
    Resource.macs: Measurement(value=1234567, unit="MAC", method=Method.exact),
    Resource.params: Measurement(value=7, unit="1", method=Method.exact),
}
MS = Measurement(value=0.123456, unit="ms", method=Method.measured)


@pytest.mark.parametrize(
    ("more", "shown"),
    [({}, {"MACs": "1.23e+06"}), ({Resource.latency_ms: MS}, {"MACs": "1.23e+06", "ms": "0.123"})],
)
def test_what_is_shown_goes_again_and_nothing_else(more, shown):
    bar, entries = {"loss": 0.5}, CostInBar()
    assert entries.hide_at == NUM_BATCHES_SHOWN
    entries.show(bar, COST | more, 30)
    assert bar == {"loss": 0.5} | shown
    assert entries.hide_at == 30 + NUM_BATCHES_SHOWN
    for _ in range(2):
        entries.hide(bar)
        assert bar == {"loss": 0.5}
