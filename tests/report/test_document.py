import json
import math

import numpy as np
import pytest

from lightning_cost.cost.resource import Resource
from lightning_cost.report.document import Stage
from lightning_cost.report.limits import broken_limits


def test_what_meters_left_out_is_listed(make_report):
    report = make_report(not_counted=["data loading"])
    assert report["not_counted"] == ["aten::sort (not in macs)", "data loading"]


def test_numbers_become_plain_and_unfinished_ones_null(make_report):
    rows = [
        {
            "epoch": 0,
            "step": np.int64(3),
            "seconds": np.float32(1.5),
            "phase": None,
            "cost": {},
            "metrics": {"val_acc": math.nan, "loss": math.inf},
        }
    ]
    report = make_report(history=rows)
    assert report["history"][0]["metrics"] == {"val_acc": None, "loss": None}
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_builder_leaves_its_input_alone(make_report):
    limits = {Resource.macs: 1e9}
    make_report(limits=limits)
    assert limits == {Resource.macs: 1e9}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"limits": {Resource.macs: 0.0}}, r"limit must be > 0 and finite, got 0.0 MAC"),
        ({"limits": {Resource.macs: math.inf}}, r"limit must be > 0 and finite, got inf MAC"),
        ({"training_limits": {"hours": 2.0}}, r"must name one of .*flops, got 'hours'"),
        ({"spend": {"usd": {"value": 1.0}}}, r"spend\['usd'\] must say its method"),
        ({"seed": "seven"}, r"report\.seed must be of type integer or null"),
        ({"parity": {"passed": True}}, r"report\.parity must have 'max_abs_error'"),
    ],
)
def test_bad_input_is_refused(make_report, changes, message):
    with pytest.raises(ValueError, match=message):
        make_report(**changes)


def test_a_cost_that_is_not_a_number_is_refused(make_report, make_final):
    with pytest.raises(ValueError, match=r"final\.cost\.latency_ms\.value must be of type number"):
        make_report(final=make_final(0.5, math.nan, 0.9))


def test_an_empty_run_still_has_a_report(make_report):
    report = make_report(dense=Stage(cost={}), final=Stage(cost={}), limits={}, history=[])
    assert report["phases"] == []
    assert broken_limits(report) == []
