import numpy as np
import onnx
import pytest
import torch
from torch import nn

from lightning_cost.cost.size import size_bytes
from lightning_cost.network.deploy import deployed_copy
from lightning_cost.network.lineage import apply_change
from lightning_cost.quantization.calibrate import calibrate
from lightning_cost.quantization.plan import plan_quantization
from lightning_cost.runtime import onnx_file
from lightning_cost.runtime.contract import DEPLOYABLE, open_file
from lightning_cost.runtime.onnx_file import write_onnx
from lightning_cost.zoo.resnet import resnet20

IMAGES = torch.randn(4, 1, 12, 12, generator=torch.Generator().manual_seed(0))


def deployed_resnet20(*, is_quantized):
    """ResNet-20 of width 16, as deployed."""
    network = resnet20(width=16, in_channels=1).train()
    network(IMAGES)
    if is_quantized:
        apply_change(network, plan_quantization(network, IMAGES))
        calibrate(network, [IMAGES])
    return deployed_copy(network, IMAGES)


@pytest.fixture(scope="module", params=[False, True], ids=["float32", "int8"])
def files(request, tmp_path_factory):
    """The network, its file, and its file as the exporter leaves it."""
    network = deployed_resnet20(is_quantized=request.param)
    folder = tmp_path_factory.mktemp("files")
    path = write_onnx(network, IMAGES, folder / "model.onnx")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_file, "remove_notes", lambda model: None)
        verbose = write_onnx(network, IMAGES, folder / "verbose.onnx")
    return network, path, verbose


@pytest.mark.parametrize("runtime", DEPLOYABLE)
def test_runtimes_compute_the_same_bits(files, runtime):
    _, *paths = files
    outputs = []
    for path in paths:
        with open_file(path, runtime=runtime, num_threads=1) as session:
            outputs.append(session.run(IMAGES)[0])
    np.testing.assert_array_equal(*outputs)


def test_the_file_is_little_larger_than_the_weights(files):
    network, path, verbose = files
    assert path.stat().st_size <= 1.15 * size_bytes(network)
    assert verbose.stat().st_size - path.stat().st_size > 50_000


def test_the_file_is_valid_and_holds_no_notes(files):
    _, path, _ = files
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert "forward" not in str(model)
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    computed = {name for node in model.graph.node for name in node.output}
    assert not computed & {value.name for value in model.graph.value_info}


def test_nodes_of_a_subgraph_are_cleared_too(tmp_path):
    class Branching(nn.Module):
        def forward(self, x):
            return torch.cond(x.sum() > 0, lambda x: x * 2 + 1, lambda x: x - 1, (x,))

    path = write_onnx(Branching(), torch.ones(2, 3), tmp_path / "model.onnx")
    model = onnx.load(path)
    (branching,) = [node for node in model.graph.node if node.op_type == "If"]
    inner = [node for branch in branching.attribute for node in branch.g.node]
    assert inner
    assert not any(node.metadata_props for node in inner)
    assert not any(function.metadata_props for function in model.functions)
