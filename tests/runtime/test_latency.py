import pytest
import torch
from torch import nn

from lightning_cost.cost.measurement import Method
from lightning_cost.runtime import latency, session
from lightning_cost.runtime.contract import DEPLOYABLE, installed_runtimes
from lightning_cost.runtime.latency import (
    measure_latencies,
    measure_latency,
    measure_side_by_side,
)
from lightning_cost.runtime.onnx_file import write_onnx
from lightning_cost.runtime.session import Runtime, Session
from lightning_cost.runtime.standalone import cpu_name
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


class FixedBatch(nn.Module):
    def forward(self, x):
        return x.view(2, 3)


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
        "p95": measurement.p95,
        "num_samples": 3,
        "stopped_by": "samples",
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


def test_one_export_serves_every_runtime_that_runs_files(monkeypatch):
    exports = []

    def write(network, example, path):
        exports.append(path)
        return write_onnx(network, example, path)

    for module in (latency, session):
        monkeypatch.setattr(module, "write_onnx", write)
    found = measure_latencies(
        nn.Linear(2, 2).eval(),
        torch.zeros(3, 2),
        runtimes=["eager", *DEPLOYABLE],
        num_threads=1,
        settings=FEW,
    )
    assert list(found.measured) == ["eager", *DEPLOYABLE]
    assert {measured.batch_size for measured in found.measured.values()} == {3}
    assert not found.failures
    assert len(exports) == 1
    assert not exports[0].exists()


def test_a_runtime_that_fails_does_not_keep_the_others_from_it():
    found = measure_latencies(
        FixedBatch().eval(),
        torch.zeros(2, 3),
        runtimes=["openvino", "eager"],
        num_threads=1,
        settings=FEW,
    )
    assert list(found.measured) == ["eager"]
    assert "must export to ONNX with a dynamic batch axis" in str(found.failures["openvino"])


def test_only_eager_leaves_the_cpu():
    with pytest.raises(ValueError, match="runtime must be eager on device meta, got 'openvino'"):
        measure_latency(
            nn.Identity(), torch.zeros(1, 1, device="meta"), runtime="openvino", num_threads=1
        )


def test_networks_side_by_side_are_timed_in_turn_on_every_runtime_of_one_export_each(monkeypatch):
    exports = []

    def write(network, example, path):
        exports.append(path)
        return write_onnx(network, example, path)

    for module in (latency, session):
        monkeypatch.setattr(module, "write_onnx", write)
    found = measure_side_by_side(
        {"wide": nn.Linear(2, 2).eval(), "fixed": FixedBatch().eval()},
        torch.zeros(3, 2),
        runtimes=["eager", *DEPLOYABLE],
        num_threads=1,
        settings=FEW,
    )
    assert list(found["wide"].measured) == ["eager", *DEPLOYABLE]
    assert {measured.batch_size for measured in found["wide"].measured.values()} == {3}
    assert list(found["fixed"].measured) == ["eager"]
    assert set(found["fixed"].failures) == set(DEPLOYABLE)
    assert len({path.name for path in exports}) == 2
    first, second = found["wide"].measured["eager"], found["fixed"].measured["eager"]
    assert first.ratio_to(second) > 0


def test_a_precision_that_a_runtime_lacks_is_a_failure_by_name():
    found = measure_side_by_side(
        {"one": nn.Linear(2, 2).eval()},
        torch.zeros(1, 2),
        runtimes=["eager"],
        num_threads=1,
        precision="bfloat16",
        settings=FEW,
    )
    assert "precision must be one of float32" in str(found["one"].failures["eager"])


def test_networks_are_exported_once_however_often_they_are_read(monkeypatch):
    pytest.importorskip("onnxruntime")
    exports, loads = [], []
    monkeypatch.setattr(
        latency, "write_onnx", lambda *given: exports.append(given[2]) or write_onnx(*given)
    )
    original = latency.InTurn._loaded
    monkeypatch.setattr(
        latency.InTurn,
        "_loaded",
        lambda self, *pair: loads.append(pair) or original(self, *pair),
    )
    with latency.InTurn(torch.zeros(3, 2), num_threads=1, settings=FEW) as turns:
        turns.add("one", nn.Linear(2, 2).eval())
        turns.add("two", nn.Linear(2, 4).eval())
        pairs = [("one", "onnxruntime"), ("two", "onnxruntime")]
        for _ in range(2):
            assert {value.batch_size for value in turns.read(pairs).values()} == {3}
        turns.forget("two")
        turns.add("two", nn.Linear(2, 4).eval())
        turns.read(pairs[1:])
        folder = exports[0].parent
        assert len(exports) == 2
    assert len(loads) == 5
    assert not folder.exists()


def test_a_runtime_that_cannot_is_told_and_the_others_are_read():
    with latency.InTurn(torch.zeros(1, 2), num_threads=1, settings=FEW) as turns:
        turns.add("one", nn.Linear(2, 2).eval())
        found = turns.read([("one", "eager"), ("one", "tflite")])
    assert found["one", "eager"].value > 0
    assert "runtime must be one of" in str(found["one", "tflite"])
