"""What is read of a network on a device, with the readings of the runtime given."""

import pytest
import torch
from torch import nn

from lightning_cost.cost.measurement import Measurement, Method
from lightning_cost.cost.resource import Resource
from lightning_cost.hardware.device import Hardware
from lightning_cost.monitor.measure import measure
from lightning_cost.pruning.target import device_meter
from lightning_cost.pruning.target.device_meter import DeviceMeter

EXAMPLE = torch.zeros(1, 4)
DENSE, PRUNED = nn.Linear(4, 8), nn.Linear(4, 2)


def latency(value, runtime):
    return Measurement(value=value, unit="ms", method=Method.measured, runtime=runtime, spread=0.1)


TIMES = {("dense", "openvino"): 4.0, ("p", "openvino"): 1.0, ("p", "onnxruntime"): 0.8}


class Turns:
    """In place of ``InTurn``: a machine that is twice as slow as when the dense was measured."""

    def __init__(self, example, **settings):
        self.networks = {}

    def __exit__(self, *details):
        pass

    def add(self, name, network):
        self.networks[name] = network

    def forget(self, name):
        del self.networks[name]

    def read(self, pairs):
        assert {name for name, _ in pairs} <= set(self.networks)
        return {
            pair: latency(TIMES[pair], pair[1])
            if pair in TIMES
            else ValueError(f"{pair} does not run")
            for pair in pairs
        }


@pytest.fixture(autouse=True)
def turns(monkeypatch):
    monkeypatch.setattr(device_meter, "InTurn", Turns)
    both = ["eager", "onnxruntime", "openvino"]
    monkeypatch.setattr(device_meter, "candidate_runtimes", lambda precision: both)


def read(hardware, dense_runtime="openvino"):
    with DeviceMeter(DENSE, EXAMPLE, hardware, latency(2.0, dense_runtime)) as meter:
        return meter.read("p", PRUNED)


def test_a_reading_is_the_ratio_to_the_dense_network_whatever_the_machine_does():
    found = read(Hardware.local("openvino"))[Resource.latency_ms]
    assert found.value == pytest.approx(2.0 * 1.0 / 4.0)
    assert found.spread == pytest.approx(0.05)
    assert found.runtime == "openvino"


def test_auto_takes_the_fastest_runtime_that_runs_files():
    found = read(Hardware.local())[Resource.latency_ms]
    assert (found.value, found.runtime) == (pytest.approx(2.0 * 0.8 / 4.0), "onnxruntime")


def test_energy_and_price_follow_the_latency():
    cost = read(Hardware.local("openvino", power_w=10, price_usd_per_hour=3.6))
    assert cost[Resource.energy_mj].value == pytest.approx(10 * 0.5)
    assert cost[Resource.usd_per_million].value == pytest.approx(0.5)


def test_a_runtime_that_cannot_run_it_is_said_with_the_reason():
    with pytest.raises(ValueError, match=r"runtime must run .* got compiled: \('p', 'compiled'\)"):
        read(Hardware.local("compiled"))


def test_a_described_device_is_priced_without_a_reading():
    hardware = Hardware.load("raspberry_pi_4")
    with DeviceMeter(DENSE, EXAMPLE, hardware) as meter:
        assert not meter.is_noisy
        found = meter.read("p", PRUNED)[Resource.latency_ms]
    expected = measure(PRUNED, EXAMPLE, hardware=hardware)[Resource.latency_ms]
    assert found.value == expected.value
