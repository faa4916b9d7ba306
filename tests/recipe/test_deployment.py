"""Deployment: what is checked before training, and what comes out of the file."""

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from lightning_cost.cost.measurement import Measurement, Method
from lightning_cost.hardware.device import Hardware
from lightning_cost.network.deploy import deployed_copy
from lightning_cost.network.lineage import apply_change
from lightning_cost.quantization.calibrate import calibrate
from lightning_cost.quantization.plan import plan_quantization
from lightning_cost.recipe import deployment
from lightning_cost.recipe.deployment import (
    NUM_READINGS,
    accuracy_of,
    as_delivered,
    export,
    fastest,
    latencies_of,
    remark_on,
    require_file_runtime,
    settle,
)
from lightning_cost.runtime.contract import open_file
from lightning_cost.runtime.latency import Latencies
from lightning_cost.runtime.parity import check_parity
from lightning_cost.zoo.resnet import resnet8


class _Fixed:
    """A session whose logits are known."""

    def run(self, images):
        return (np.eye(3)[images.flatten().int().numpy()],)


def test_accuracy_is_the_share_of_right_answers():
    batches = [
        (torch.tensor([[0.0], [1.0]]), torch.tensor([0, 2])),
        (torch.tensor([[2.0]]), torch.tensor([2])),
    ]
    assert accuracy_of(_Fixed(), batches) == pytest.approx(2 / 3)


def test_nothing_to_run_the_file_on_is_said_before_training(monkeypatch):
    monkeypatch.setattr(deployment, "installed_runtimes", lambda: ["eager"])
    with pytest.raises(ValueError, match="deployment needs one of onnxruntime, openvino, got none"):
        require_file_runtime()


def test_export_of_an_unknown_format(tmp_path):
    with pytest.raises(ValueError, match=r"runtime must be one of onnx, .*, got 'tflite'"):
        export(nn.Linear(2, 2), tmp_path / "model", torch.zeros(1, 2), runtime="tflite")


def test_export_to_another_ending_or_no_folder(tmp_path):
    network, x = nn.Linear(2, 2), torch.zeros(1, 2)
    with pytest.raises(ValueError, match=r"path must end in \.onnx, got '.*foo\.bar'; name it so"):
        export(network, tmp_path / "foo.bar", x)
    for runtime, name in (("onnx", "a.onnx"), ("openvino", "a.xml")):
        with pytest.raises(FileNotFoundError, match=r"path must lie in a folder that exists, got "):
            export(network, tmp_path / "none" / name, x, runtime=runtime)
    assert not list(tmp_path.iterdir())


def test_export_to_openvino(tmp_path):
    path = export(nn.Linear(2, 2), tmp_path / "model.xml", torch.zeros(1, 2), runtime="openvino")
    assert path.read_text().startswith("<?xml")
    assert path.with_suffix(".bin").exists()
    with pytest.raises(ValueError, match=r"path must end in \.xml"):
        export(nn.Linear(2, 2), tmp_path / "model.onnx", torch.zeros(1, 2), runtime="openvino")


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_network_trained_in_channels_last_computes_the_same_on_the_runtime(tmp_path, runtime):
    # pooled and flattened, its strides used to be written out as gathers, wrong on OpenVINO in int8
    torch.manual_seed(0)
    network = resnet8(width=16, in_channels=1).to(memory_format=torch.channels_last).eval()
    images = torch.randn(64, 1, 28, 28)
    apply_change(network, plan_quantization(network, images[:1]))
    calibrate(network, [images])
    network.eval()
    path = export(network, tmp_path / "model.onnx", images[:1])
    operators = {node.op_type for node in onnx.load(path).graph.node}
    assert not operators & {"Gather", "Range", "Shape"}
    with open_file(path, runtime=runtime, num_threads=1) as session:
        parity = check_parity(deployed_copy(network, images), session, images, max_error_ratio=0.05)
    assert parity.passed, parity


def measured(value, runtime, **fields):
    interval = (0.99 * value, 1.01 * value)
    return Measurement(
        value=value, unit="ms", method=Method.measured, runtime=runtime, interval=interval, **fields
    )


FOUND = Latencies(
    measured={
        "eager": measured(1.0, "eager"),
        "onnxruntime": measured(2.0, "onnxruntime"),
        "openvino": measured(3.0, "openvino"),
    },
    failures={"compiled": ValueError("no compiler")},
)


def test_the_dense_network_is_quoted_on_its_fastest_runtime():
    assert fastest(FOUND).runtime == "eager"
    assert fastest(Latencies(measured={}, failures={})) is None


def test_auto_delivers_for_the_fastest_runtime_that_runs_the_file():
    delivered = as_delivered(FOUND, Hardware.local())
    assert delivered.runtime == "onnxruntime"
    assert remark_on(FOUND, delivered) == (
        "eager runs the delivered network in 1 ms, onnxruntime, which it is delivered for, in 2"
    )


def test_a_named_runtime_is_the_one_even_if_slower():
    assert as_delivered(FOUND, Hardware.local("openvino")).value == 3.0
    assert as_delivered(FOUND, Hardware.local("eager")).value == 1.0
    with pytest.raises(ValueError, match=r"runtime must run the delivered .*compiled: no compiler"):
        as_delivered(FOUND, Hardware.local("compiled"))
    assert as_delivered(FOUND, Hardware.load("raspberry_pi_4")) is None


def test_nothing_is_said_where_the_intervals_overlap():
    near = Latencies(
        measured={"eager": measured(1.0, "eager"), "openvino": measured(1.01, "openvino")},
        failures={},
    )
    assert remark_on(near, near.measured["openvino"]) is None
    assert remark_on(near, near.measured["eager"]) is None
    assert remark_on(near, None) is None


def test_latencies_are_those_of_the_targets_batch_and_precision(monkeypatch):
    monkeypatch.setattr(deployment, "installed_runtimes", lambda: ["eager", "openvino"])
    networks = {"dense": nn.Linear(8, 8), "final": nn.Linear(8, 2)}
    hardware = Hardware.local("openvino", batch_size=3, precision="bfloat16")
    found = latencies_of(networks, torch.zeros(1, 8), hardware)
    assert list(found) == ["dense", "final"]
    for latencies in found.values():
        assert list(latencies.measured) == ["openvino"]
        assert latencies.measured["openvino"].batch_size == 3
        assert latencies.measured["openvino"].dtype == "bfloat16"
        assert not latencies.failures
    described = latencies_of(networks, torch.zeros(1, 8), Hardware.load("raspberry_pi_4"))
    assert described["final"].measured == {}


def test_what_a_limit_depends_on_is_read_several_times_in_turn(monkeypatch):
    read = []

    class Turns(deployment.InTurn):
        def read(self, pairs):
            read.append(pairs)
            value = float(len(read))
            return {pair: measured(value * 2 ** (pair[0] == "dense"), pair[1]) for pair in pairs}

    monkeypatch.setattr(deployment, "InTurn", Turns)
    networks = {"dense": nn.Linear(8, 8), "final": nn.Linear(8, 2)}
    latencies = {name: Latencies(measured={}, failures={}) for name in networks}
    runtimes = {"dense": "eager", "final": "openvino"}
    settle(latencies, networks, torch.zeros(1, 8), Hardware.local(), runtimes)
    assert read == [[("dense", "eager"), ("final", "openvino")]] * NUM_READINGS
    final = latencies["final"].measured["openvino"]
    assert final.value == (NUM_READINGS + 1) / 2
    assert final.interval == (2, NUM_READINGS - 1)  # of nine, second smallest and largest
    assert latencies["dense"].measured["eager"].value == NUM_READINGS + 1
