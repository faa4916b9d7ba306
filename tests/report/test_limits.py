import pytest

from lightning_cost.cost.resource import Resource
from lightning_cost.report.limits import broken_limits, broken_parity, keeps_its_word


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


def test_a_run_keeps_its_word_by_its_limits_and_by_its_file(make_report, unfaithful):
    limits, broken = {Resource.macs: 1e8}, {Resource.macs: 1e6}
    assert keeps_its_word(make_report(limits=limits))
    assert keeps_its_word(make_report(limits=limits, parity=None))  # not compared
    assert not keeps_its_word(make_report(limits=broken))
    assert not keeps_its_word(make_report(limits=limits, parity=unfaithful))


def test_broken_parity_says_by_how_much(make_report, unfaithful):
    assert broken_parity(make_report()) is None
    assert broken_parity(make_report(parity=unfaithful)) == (
        "on openvino the file computes something else than the trained network: largest error "
        "0.112, output range 18.4, share of equal predictions 0.1"
    )
