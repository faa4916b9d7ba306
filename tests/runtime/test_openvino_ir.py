import importlib.util

import numpy as np
import pytest
import torch
from torch import nn

from lightning_cost.cost.size import size_bytes
from lightning_cost.network.deploy import deployed_copy
from lightning_cost.network.lineage import apply_change
from lightning_cost.quantization.calibrate import calibrate
from lightning_cost.quantization.plan import plan_quantization
from lightning_cost.runtime.contract import open_file
from lightning_cost.runtime.onnx_file import write_onnx
from lightning_cost.runtime.openvino_ir import write_openvino_ir
from lightning_cost.zoo.resnet import resnet8

pytest.importorskip("openvino")


def test_computes_what_the_onnx_file_does_and_is_no_larger(tmp_path):
    torch.manual_seed(0)
    network, x = resnet8(width=32, in_channels=1).eval(), torch.randn(4, 1, 16, 16)
    apply_change(network, plan_quantization(network, x))
    calibrate(network, [x])
    deployed = deployed_copy(network, x)
    paths = [
        write_onnx(deployed, x, tmp_path / "model.onnx"),
        write_openvino_ir(deployed, x, tmp_path / "model.xml"),
    ]
    outputs = []
    for path in paths:
        with open_file(path, runtime="openvino", num_threads=1) as session:
            outputs.append(session.run(x)[0])
            assert session.run(x[:1])[0].shape == (1, 10)
    assert np.array_equal(*outputs)
    assert (tmp_path / "model.bin").stat().st_size <= 1.1 * size_bytes(deployed)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"model.onnx", "model.xml", "model.bin"}


def test_other_endings(tmp_path):
    with pytest.raises(ValueError, match=r"path must end in \.xml for .* got '.*model\.onnx'"):
        write_openvino_ir(nn.Linear(2, 2), torch.zeros(1, 2), tmp_path / "model.onnx")


def test_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="path must lie in a folder that exists"):
        write_openvino_ir(nn.Linear(2, 2), torch.zeros(1, 2), tmp_path / "none" / "model.xml")


def test_without_openvino(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="written with the package openvino, which is missing"):
        write_openvino_ir(nn.Linear(2, 2), torch.zeros(1, 2), tmp_path / "model.xml")
