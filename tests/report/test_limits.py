import pytest

from lightning_cost.cost.resource import Resource
from lightning_cost.report.limits import broken_limits


def test_headroom_is_one_minus_cost_over_limit(make_report):
    report = make_report(limits={Resource.latency_ms: 0.8, Resource.macs: 1e6})
    latency = report["budget"]["latency_ms"]
    assert latency["headroom"] == pytest.approx(1 - 0.69 / 0.8)
    assert latency["kept"]
    assert latency["method"] == "measured"
    assert not report["budget"]["macs"]["kept"]
    assert broken_limits(report) == ["macs must be <= 1,000,000 MAC, got 46,627,200 MAC"]


def test_a_limit_that_is_met_exactly_is_kept(make_report):
    entry = make_report(limits={Resource.latency_ms: 0.69})["budget"]["latency_ms"]
    assert entry["kept"]
    assert entry["headroom"] == 0


def test_a_limit_on_an_unknown_cost_is_not_kept_and_says_why(make_report):
    report = make_report(limits={Resource.usd_per_million: 1.0})
    entry = report["budget"]["usd_per_million"]
    assert entry["value"] is None
    assert not entry["kept"]
    assert entry["reason"] == "the final network has no usd_per_million: it could not be priced"
    assert entry["reason"] in broken_limits(report)[0]


def test_training_flops_are_those_of_training_validation_and_search(make_report):
    entry = make_report(training_limits={"flops": 1e15})["training_budget"]["flops"]
    assert entry["value"] == 1.31e15 + 2.2e14 + 9.4e13
    assert entry["method"] == "exact"
    assert not entry["kept"]


def test_a_training_limit_on_unknown_spend_is_not_kept(make_report):
    entry = make_report(training_limits={"usd": 3.0})["training_budget"]["usd"]
    assert (entry["value"], entry["kept"]) == (None, False)
    assert entry["reason"] == "the run does not know its usd"
