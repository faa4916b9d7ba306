import pytest
import torch
from torch import nn

from lightning_cost.cost.measurement import Method
from lightning_cost.runtime import latency
from lightning_cost.runtime.contract import installed_runtimes
from lightning_cost.runtime.device import cpu_name
from lightning_cost.runtime.latency import measure_latency
from lightning_cost.runtime.session import Runtime, Session
from lightning_cost.runtime.timing import TimingSettings

FEW = TimingSettings(min_samples=3, max_samples=3)


class Recorded(Runtime, Session):
    """A runtime that writes down what happens to it."""

    name = "recorded"
    precisions = ("float32", "float16")
    log: list

    @classmethod
    def is_available(cls):
        return True

    def load(self, network, example, *, num_threads):
        self.log.append(("load", num_threads, self.precision))
        return self

    def bind(self, example):
        return lambda: self.log.append("run")

    def run(self, example):
        return ()

    def close(self):
        self.log.append("close")


@pytest.fixture
def log(monkeypatch):
    entries = []

    def get_runtime(name, *, precision):
        runtime = Recorded(precision=precision)
        Recorded.log = entries
        return runtime

    monkeypatch.setattr(latency, "get_runtime", get_runtime)
    return entries


@pytest.mark.parametrize("runtime", installed_runtimes())
def test_every_runtime_is_really_timed(runtime):
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()).eval()
    measurement = measure_latency(
        network, torch.zeros(2, 1, 8, 8), runtime=runtime, num_threads=1, settings=FEW
    )
    assert measurement.value > 0
    assert measurement.spread >= 0
    assert measurement.to_dict() == {
        "value": measurement.value,
        "spread": measurement.spread,
        "unit": "ms",
        "method": Method.measured.value,
        "device": cpu_name(),
        "runtime": runtime,
        "num_threads": 1,
        "batch_size": 2,
        "dtype": "float32",
        "unsupported": [],
    }


def test_the_session_is_closed_after_it_was_timed(log):
    measurement = measure_latency(
        nn.Identity(),
        torch.zeros(1, 1),
        runtime="recorded",
        num_threads=3,
        precision="float16",
        settings=FEW,
    )
    assert log[0] == ("load", 3, "float16")
    assert log[-4:] == ["run"] * 3 + ["close"]
    assert measurement.dtype == "float16"


def test_the_device_is_waited_for_after_every_run(log, monkeypatch):
    monkeypatch.setattr(latency, "synchronize", lambda device: log.append(device.type))
    measure_latency(
        nn.Identity(), torch.zeros(1, 1), runtime="recorded", num_threads=1, settings=FEW
    )
    assert log[1:-1] == ["run", "cpu"] * ((len(log) - 2) // 2)


def test_only_eager_leaves_the_cpu():
    with pytest.raises(ValueError, match="runtime must be eager on device meta, got 'openvino'"):
        measure_latency(
            nn.Identity(), torch.zeros(1, 1, device="meta"), runtime="openvino", num_threads=1
        )
