"""Which pruning steps are left out, with made-up prices."""

import pytest
from torch import nn

from lightning_cost.cost.measurement import Measurement, Method
from lightning_cost.cost.resource import Resource
from lightning_cost.pruning.objection import NOTHING, objection_to
from lightning_cost.pruning.structure.surgery import RemoveChannels

CHANGE = RemoveChannels(
    kept={"0": {"out": (0, 1)}, "1": {"in": (0, 1)}}, sizes={"0": {"out": 4}, "1": {"in": 4}}
)
MS, MACS = Resource.latency_ms, Resource.macs


def cost(ms, macs, sure=0.1):
    measured = Measurement(
        value=ms, unit="ms", method=Method.measured, interval=(ms - sure, ms + sure)
    )
    return {MS: measured, MACS: Measurement(value=macs, unit="MAC", method=Method.exact)}


def objection(before, after, *, is_last=False, limits=None):
    network = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 2))
    prices = {4: before, 2: after}

    def cost_of(candidate):
        return prices[candidate[0].out_features]

    return objection_to(
        CHANGE, network, cost_of, {MS: 1.5, MACS: 50} if limits is None else limits, is_last=is_last
    )


def test_faster_is_fine():
    assert objection(cost(2.0, 100), cost(1.0, 50)) is None


def test_slower_is_left_out_and_said():
    found = objection(cost(2.0, 100), cost(2.5, 50))
    assert found == "is left out, for it would raise latency_ms from 2 to 2.5 ms"


def test_what_the_measurement_is_not_sure_of_is_no_objection():
    assert objection(cost(2.0, 100), cost(2.15, 50)) is None


@pytest.mark.parametrize(("macs", "is_kept"), [(100, False), (40, True)])
def test_the_last_step_is_needed_where_a_limit_is_still_broken(macs, is_kept):
    found = objection(cost(1.0, macs), cost(1.4, 30), is_last=True)
    assert (found is not None) is is_kept


def test_counted_limits_need_no_device():
    def never(_):
        raise AssertionError("no need to deploy")

    assert objection_to(CHANGE, nn.Linear(1, 1), never, {MACS: 1}, is_last=False) is None


def test_nothing_to_remove():
    nothing = RemoveChannels(kept={}, sizes={})
    assert objection_to(nothing, nn.Linear(1, 1), None, {MS: 1.0}, is_last=True) == NOTHING
