import pytest
import torch
from torch import nn

from lightning_cost.cost.measurement import Measurement, Method
from lightning_cost.hardware import local
from lightning_cost.hardware.local import candidate_runtimes, measure_fastest
from lightning_cost.runtime import latency

NETWORK, EXAMPLE = nn.Linear(2, 2), torch.zeros(1, 2)


def fake_latencies(monkeypatch, latencies):
    """Runtimes by name, with their latency or with why they fail."""

    def measure(network, example, *, runtime, num_threads, precision, **kwargs):
        value = latencies[runtime]
        if isinstance(value, str):
            raise ValueError(value)
        return Measurement(value=value, unit="ms", method=Method.measured, runtime=runtime)

    for module in (local, latency):
        monkeypatch.setattr(module, "measure_latency", measure)
    monkeypatch.setattr(local, "candidate_runtimes", lambda precision: list(latencies))


def fastest(runtime=None):
    return measure_fastest(NETWORK, EXAMPLE, runtime=runtime, num_threads=1, precision="float32")


def test_auto_takes_the_fastest_and_says_which(monkeypatch):
    fake_latencies(monkeypatch, {"eager": 3.0, "onnxruntime": 1.0, "openvino": 2.0})
    assert fastest().runtime == "onnxruntime"


def test_a_named_runtime_is_taken_even_if_slower(monkeypatch):
    fake_latencies(monkeypatch, {"eager": 3.0, "onnxruntime": 1.0})
    assert fastest("eager").value == 3.0


def test_a_runtime_that_fails_is_left_out_with_a_warning(monkeypatch):
    fake_latencies(monkeypatch, {"eager": 3.0, "openvino": "no such operator"})
    with pytest.warns(UserWarning, match="runtime=auto left out openvino: no such operator"):
        assert fastest().runtime == "eager"


def test_no_runtime_at_all(monkeypatch):
    fake_latencies(monkeypatch, {"openvino": "no such operator"})
    with pytest.raises(ValueError, match=r"runtime must be able to run .*openvino: no such op"):
        fastest()


def test_candidates_offer_the_precision_and_are_not_compiled():
    assert "eager" in candidate_runtimes("float32")
    assert "compiled" not in candidate_runtimes("float32")
    assert "onnxruntime" not in candidate_runtimes("bfloat16")


def test_real_runtimes_run_a_real_network():
    measurement = measure_fastest(
        NETWORK.eval(), EXAMPLE, runtime=None, num_threads=1, precision="float32"
    )
    assert measurement.runtime in candidate_runtimes("float32")
    assert measurement.value > 0
