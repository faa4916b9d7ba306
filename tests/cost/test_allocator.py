"""Peak memory beside what allocators measured: PyTorch's, and ONNX Runtime's arena."""

import io
import json
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from lightning_cost.cost.liveness import peak_of_steps, without_reuse
from lightning_cost.cost.memory import peak_memory_bytes, recorded_steps
from lightning_cost.network.deploy import deployed_copy
from lightning_cost.zoo.mobilenet import mobilenet_v2_small
from lightning_cost.zoo.resnet import resnet8


class Concat(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 24, 3)
        self.end = nn.Conv2d(32, 4, 1)

    def forward(self, x):
        return self.end(torch.cat([self.left(x).relu(), self.right(x)], dim=1))


def attention():
    return nn.TransformerEncoder(
        nn.TransformerEncoderLayer(16, 2, 64, batch_first=True), 2, enable_nested_tensor=False
    )


IMAGES = torch.zeros(1, 3, 32, 32)
NETWORKS = {
    "resnet": (lambda: resnet8(in_channels=3), IMAGES),
    "mobilenet": (lambda: mobilenet_v2_small(in_channels=3), IMAGES),
    "concat": (Concat, IMAGES),
    "mlp": (
        lambda: nn.Sequential(nn.Linear(32, 512), nn.Tanh(), nn.Linear(512, 8)),
        IMAGES[:, 0, 0],
    ),
    "transformer": (attention, torch.zeros(1, 12, 16)),
}


class MarkingInterpreter(torch.fx.Interpreter):
    """Frees tensors after their last use, and marks where an operator ended, before that."""

    def run_node(self, n):
        result = super().run_node(n)
        with record_function("operator ended"):
            return result


def eager_peak(network, example):
    """What PyTorch's allocator had given out at most, without the work space within operators."""
    exported = torch.export.export(network, (example,), strict=False).run_decompositions({})
    interpreter = MarkingInterpreter(exported.module())
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
        interpreter.run(example)
    alive = peak = 0
    for event in sorted(run.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            alive += event.nbytes()
        elif event.name() == "operator ended":
            peak = max(peak, alive)
    return peak


def peak_without_reuse(network, example, batch_size):
    """As in eager mode: nothing is written over, and the caller keeps the inputs."""
    steps = without_reuse(recorded_steps(network, example, batch_size=batch_size))
    (inputs,) = steps[0].writes
    steps[-1] = replace(steps[-1], reads=(*steps[-1].reads, inputs))
    return peak_of_steps(steps)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_liveness_is_what_the_eager_allocator_measured(name, batch_size):
    build, example = NETWORKS[name]
    network = deployed_copy(build(), example)
    batch = example.repeat(batch_size, *[1] * (example.dim() - 1))
    measured = eager_peak(network, batch) + batch.nbytes  # which the caller had allocated
    counted = peak_without_reuse(network, example, batch_size)
    assert counted == measured
    assert peak_memory_bytes(network, example, batch_size=batch_size) <= counted


@pytest.mark.parametrize("name", ["resnet", "mobilenet", "concat", "mlp"])
def test_the_peak_on_meta_is_that_on_the_cpu(name):
    build, example = NETWORKS[name]
    network = deployed_copy(build(), example)
    on_cpu = peak_memory_bytes(network, example, batch_size=3)
    assert peak_memory_bytes(network.to("meta"), example.to("meta"), batch_size=3) == on_cpu


def arena_peak(network, example, folder):
    """Bytes that ONNX Runtime's arena had given out at most, and without kernels' work space."""
    onnxruntime = pytest.importorskip("onnxruntime")
    file = io.BytesIO()
    torch.onnx.export(network, (example,), dynamo=True, verbose=False).save(file)
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    session = onnxruntime.InferenceSession(
        file.getvalue(), options, providers=["CPUExecutionProvider"]
    )
    session.run(None, {session.get_inputs()[0].name: example.numpy()})
    with open(session.end_profiling()) as profile:
        nodes = [event["args"] for event in json.load(profile) if event["cat"] == "Node"]
    if "mem_in_use_peak" not in nodes[0]:
        pytest.skip("this ONNX Runtime does not profile memory")
    columns = ("mem_in_use_peak", "mem_bytes_in_use")
    return tuple(max(int(node[column]) for node in nodes) for column in columns)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", ["resnet", "mobilenet", "concat"])
def test_the_arena_of_onnx_runtime_is_within_a_factor_of_what_is_counted(name, tmp_path):
    """Below where a sum is written over by a convolution; above where layouts are converted."""
    build, example = NETWORKS[name]
    network = deployed_copy(build(), example)
    counted = peak_memory_bytes(network, example)
    for measured in arena_peak(network, example, tmp_path):
        assert 0.6 * counted <= measured + example.nbytes <= 1.5 * counted
