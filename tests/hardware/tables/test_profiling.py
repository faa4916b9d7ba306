"""Profiling with real networks of a few microseconds, and with a timer that is made up."""

import numpy as np
import pytest

from lightning_cost.hardware.tables import profiling
from lightning_cost.hardware.tables.latency_table import LatencyTable
from lightning_cost.hardware.tables.profiling import (
    FamilyTimer,
    ProfileSettings,
    empty_table,
    profile,
    sample_of,
)
from lightning_cost.hardware.tables.width_design import width_design
from lightning_cost.runtime.operator_owners import OperatorOwners
from lightning_cost.runtime.standalone import RUNTIMES
from tests.reference.width_family import HandFamily

FAMILY = HandFamily()
QUICK = ProfileSettings(num_networks=3, seconds=0.01)


class CountingTimer(FamilyTimer):
    """A network takes as many ms as it has channels; counts how many were measured."""

    measured = 0

    def __init__(self, family, table):
        self._family = family

    def reference_ms(self, seconds=1.0):
        return 0.5

    def compare(self, model, seconds):
        type(self).measured += 1
        operators = [[name, [], 0.1] for name in ("node_conv", "node_conv_1", "node_gemm")]
        return {"ratio": 2.0, "ratio_spread": 0.2, "reference_ms": 0.6, "operators": operators}


@pytest.fixture
def timer(monkeypatch):
    monkeypatch.setattr(CountingTimer, "measured", 0)
    monkeypatch.setattr(profiling, "FamilyTimer", CountingTimer)
    return CountingTimer


def begun(runtime="onnxruntime", **options):
    return empty_table(FAMILY, runtime=runtime, **options)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_real_networks_are_measured(monkeypatch, runtime):
    monkeypatch.setattr(FamilyTimer.reference_ms, "__defaults__", (0.02,))
    table = profile(FAMILY, begun(runtime), settings=QUICK)
    (network,) = table.networks
    observed = network.observations()
    assert network.layers == FAMILY.graph.layers
    assert (observed.latency_ms > 0).all()
    assert (observed.layer_ms.sum(axis=1) > 0).all()
    design = width_design(FAMILY.totals, 3, np.random.default_rng(0))
    outs, ins = FAMILY.channels_at(design)
    assert (observed.outs == outs).all()
    assert (observed.ins == ins).all()
    assert 0.1 < observed.latency_ms[0] / network.reference_ms < 20


def test_times_are_in_ms_of_the_reference(timer):
    sample = profile(FAMILY, begun(), settings=QUICK).networks[0].samples[0]
    assert sample.latency == 1.0
    assert sample.spread == 0.1
    assert sample.layers == (0.05, 0.05, 0, 0, 0.05)
    assert sample.operators == (1, 1, 0, 0, 1)


def test_an_interrupted_profile_goes_on_without_measuring_again(timer, tmp_path):
    path = tmp_path / "table.json"
    settings = ProfileSettings(num_networks=7)

    def interrupt(done, total):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        profile(FAMILY, begun(), settings=settings, path=path, progress=interrupt)
    kept = LatencyTable.load(path)
    assert len(kept.networks[0].samples) == timer.measured == 4
    seen = []
    resumed = profile(
        FAMILY, kept, settings=settings, path=path, progress=lambda *done: seen.append(done)
    )
    assert timer.measured == 7
    assert seen == [(5, 7), (6, 7), (7, 7)]
    assert resumed == LatencyTable.load(path)
    uninterrupted = profile(FAMILY, begun(), settings=settings)
    assert [each.outs for each in resumed.networks[0].samples] == [
        each.outs for each in uninterrupted.networks[0].samples
    ]


def test_a_finished_profile_measures_nothing(timer):
    table = profile(FAMILY, begun(), settings=QUICK)
    assert profile(FAMILY, table, settings=QUICK) == table
    assert timer.measured == 3


def test_another_architecture_is_added(timer):
    other = HandFamily(name="other", totals=(10, 18))
    table = profile(other, profile(FAMILY, begun(), settings=QUICK), settings=QUICK)
    assert [network.name for network in table.networks] == ["hand", "other"]
    assert [len(network.samples) for network in table.networks] == [3, 3]


@pytest.mark.parametrize("other", [HandFamily(side=12), HandFamily(totals=(10, 18))])
def test_another_architecture_of_the_same_name_is_refused(timer, other):
    table = profile(FAMILY, begun(), settings=QUICK)
    with pytest.raises(ValueError, match=r"name must tell architectures apart, got 'hand' .* give"):
        profile(other, table, settings=QUICK)


def test_the_time_limit(timer):
    """A clock that goes on by 10 s whenever it is asked."""
    now = iter(range(0, 1000, 10))
    settings = ProfileSettings(num_networks=50, time_limit_s=35)
    table = profile(FAMILY, begun(), settings=settings, clock=lambda: next(now))
    assert len(table.networks[0].samples) == 3
    unlimited = ProfileSettings(num_networks=5, time_limit_s=None)
    assert len(profile(FAMILY, table, settings=unlimited).networks[0].samples) == 5


def test_a_table_of_another_device_is_refused(timer):
    table = begun()
    elsewhere = LatencyTable(
        device={**table.device, "cpu": "Another CPU"},
        runtime="onnxruntime",
        num_threads=1,
        precision="float32",
        batch_size=1,
    )
    with pytest.raises(ValueError, match=r"of this device, .* got cpu 'Another CPU' where"):
        profile(FAMILY, elsewhere, settings=QUICK)


def test_a_table_of_another_batch_is_refused(timer):
    with pytest.raises(ValueError, match="batch_size 1 where 3 is wanted"):
        profile(HandFamily(batch_size=3), begun(), settings=QUICK)


def test_a_runtime_that_tells_no_operators_is_refused():
    with pytest.raises(
        ValueError, match=r"runtime must be one of onnxruntime, openvino, .* 'eager"
    ):
        begun("eager")


@pytest.mark.parametrize("name", ["num_networks", "seconds", "time_limit_s"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_settings_that_make_no_sense_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be > 0, got {value!r}; leave it at its def"):
        ProfileSettings(**{name: value})


def test_a_comparison_that_was_disturbed_is_taken_again(monkeypatch):
    spreads = iter([0.5, 0.2, 0.01, 0.0])
    monkeypatch.setattr(FamilyTimer, "_opened", lambda *model: None)
    timer = FamilyTimer(FAMILY, begun())
    monkeypatch.setattr(
        profiling, "compare", lambda *models, seconds: {"ratio": 1.0, "ratio_spread": next(spreads)}
    )
    assert timer.compare(b"", 0.01)["ratio_spread"] == 0.01


def test_of_three_that_were_disturbed_the_best_counts(monkeypatch):
    spreads = iter([0.5, 0.2, 0.3, 0.0])
    monkeypatch.setattr(FamilyTimer, "_opened", lambda *model: None)
    timer = FamilyTimer(FAMILY, begun())
    monkeypatch.setattr(
        profiling, "compare", lambda *models, seconds: {"ratio": 1.0, "ratio_spread": next(spreads)}
    )
    assert timer.compare(b"", 0.01)["ratio_spread"] == 0.2


def test_a_sample_of_what_was_found():
    found = {"ratio": 1.5, "ratio_spread": 0.1, "operators": [["b", [], 0.5], ["x", [], 0.25]]}
    owners = OperatorOwners(places={"a": 0, "b": 1}, num_layers=2)
    sample = sample_of(found, owners, reference_ms=2.0, outs=[3, 4], ins=[1, 3])
    assert (sample.latency, sample.spread) == (3.0, 0.2)
    assert sample.layers == (0.0, 1.5)
    assert sample.operators == (0, 2)
