from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from lightning_cost.network.deploy import deployed_copy
from lightning_cost.network.lineage import apply_change
from lightning_cost.quantization.calibrate import calibrate
from lightning_cost.quantization.plan import plan_quantization
from lightning_cost.runtime import onnx_file
from lightning_cost.runtime.contract import DEPLOYABLE, open_file
from lightning_cost.runtime.onnx_file import write_onnx
from lightning_cost.runtime.openvino_ir import write_openvino_ir
from lightning_cost.zoo.mobilenet import InvertedResidual
from lightning_cost.zoo.resnet import resnet8, resnet20

IMAGES = torch.randn(16, 1, 16, 16, generator=torch.Generator().manual_seed(0))


class Sum(nn.Module):
    """A residual block between two convolutions."""

    def __init__(self, activation):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU())
        self.body = nn.Sequential(
            *(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1)),
            activation,
        )
        self.last = nn.Conv2d(16, 4, 1)

    def forward(self, images):
        x = self.stem(images)
        return self.last(x + self.body(x))


NETWORKS = {
    "sum": lambda: Sum(nn.Identity()),
    "hardtanh": lambda: Sum(nn.Hardtanh(-0.1, 0.1)),
    "inverted": lambda: nn.Sequential(
        nn.Conv2d(1, 8, 3), InvertedResidual(8, 8, 6, stride=1), nn.Conv2d(8, 4, 1)
    ),
    "resnet8": lambda: resnet8(width=8, in_channels=1),
}


def deployed(make):
    torch.manual_seed(0)
    network = make().train()
    network(IMAGES)
    apply_change(network, plan_quantization(network, IMAGES[:1]))
    calibrate(network, [IMAGES])
    return deployed_copy(network, IMAGES)


def output_of(path, runtime):
    with open_file(path, runtime=runtime, num_threads=1) as session:
        return torch.from_numpy(session.run(IMAGES)[0])


def operators(path):
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def without_the_pass(network, path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_file, "round_addends_twice", lambda model: None)
        return write_onnx(network, IMAGES, path)


@pytest.fixture(scope="module", params=NETWORKS)
def files(request, tmp_path_factory):
    """A converted network, its file, and its file as it would be without a second quantisation."""
    network, folder = deployed(NETWORKS[request.param]), tmp_path_factory.mktemp("files")
    path = write_onnx(network, IMAGES, folder / "model.onnx")
    return network, path, without_the_pass(network, folder / "plain.onnx")


def error_of(network, path, runtime):
    """Of the logits, as a share of theirs."""
    expected = network(IMAGES)
    return float((output_of(path, runtime) - expected).square().mean().sqrt() / expected.std())


@pytest.mark.parametrize("runtime", DEPLOYABLE)
def test_every_runtime_rounds_what_pytorch_rounds(files, runtime):
    network, path, _ = files
    # what may be left are ties that the order of a sum in floating point decides
    assert error_of(network, path, runtime) <= 0.001


def test_openvino_alone_would_not(files):
    network, _, plain = files
    assert error_of(network, plain, "openvino") > 0.001
    assert error_of(network, plain, "onnxruntime") <= 0.001


def test_openvino_rounds_its_own_file_too(tmp_path):
    network = deployed(NETWORKS["sum"])
    path = write_openvino_ir(network, IMAGES, tmp_path / "model.xml")
    assert error_of(network, path, "openvino") <= 0.001


def test_no_value_is_changed_by_it(files):
    _, path, plain = files
    onnx.checker.check_model(onnx.load(path), full_check=True)
    np.testing.assert_array_equal(output_of(path, "onnxruntime"), output_of(plain, "onnxruntime"))
    added = operators(path) - operators(plain)
    assert added["QuantizeLinear"] == added["DequantizeLinear"] > 0
    assert added.total() == 2 * added["QuantizeLinear"]


def test_only_addends_after_a_convolution_that_nothing_else_reads(tmp_path):
    nothing_to_add = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.ReLU())
    zero_is_the_lowest = Sum(nn.ReLU())
    for index, network in enumerate((nothing_to_add, zero_is_the_lowest)):
        converted = deployed(lambda network=network: network)
        plain = without_the_pass(converted, tmp_path / f"plain{index}.onnx")
        twice = write_onnx(converted, IMAGES, tmp_path / f"twice{index}.onnx")
        assert operators(twice) == operators(plain)


def test_a_network_in_floating_point_is_written_as_it_is(tmp_path):
    network = deployed_copy(resnet20(width=4, in_channels=1), IMAGES)
    path = write_onnx(network, IMAGES, tmp_path / "model.onnx")
    assert operators(path)["QuantizeLinear"] == 0
