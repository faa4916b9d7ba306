import logging
import sys

import numpy as np
import onnx
import pytest
import torch
import torch.ao.quantization.fx._decomposed
from torch import nn

from lightning_cost.cost.forward import tensors_of
from lightning_cost.runtime import onnx_file
from lightning_cost.runtime.contract import DEPLOYABLE, open_file
from lightning_cost.runtime.onnx_file import feed, input_names, write_onnx


class FixedBatch(nn.Module):
    def forward(self, x):
        return x.view(2, 3)


class ControlFlow(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Variadic(nn.Module):
    def forward(self, first, *rest, scale):
        return (first + rest[0] + rest[1][0]) * scale


class QuantizedConv(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("weight", torch.randint(-127, 127, (4, 3, 3, 3), dtype=torch.int8))
        self.register_buffer("scale", torch.rand(4) / 100)
        self.register_buffer("zero", torch.zeros(4, dtype=torch.int64))

    def forward(self, x):
        ops = torch.ops.quantized_decomposed
        x = ops.quantize_per_tensor(x, 0.05, 128, 0, 255, torch.uint8)
        x = ops.dequantize_per_tensor(x, 0.05, 128, 0, 255, torch.uint8)
        weight = ops.dequantize_per_channel(
            self.weight, self.scale, self.zero, 0, -127, 127, torch.int8
        )
        return nn.functional.conv2d(x, weight)


class ReturnsInputs(nn.Module):
    """Hands its inputs back, beside one value twice, and a weight."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x, x_out):
        y = self.layer(x)
        return x, y, {"again": y, "other": x_out}, self.layer.bias


class AnyArguments(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, *args):
        return sum(self.layer(value) for value in args)


def test_the_file_is_single_valid_dynamic_and_named_as_forward(tmp_path):
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5)).train()
    path = write_onnx(network, torch.zeros(1, 3, 4), tmp_path / "model.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    (value,) = model.graph.input
    dims = value.type.tensor_type.shape.dim
    assert value.name == "input"
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["batch", 3, 4]
    assert model.graph.output[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert next(item for item in model.opset_import if not item.domain).version >= 18
    assert network.training


def test_nested_and_keyword_inputs_are_named_and_fed_in_order(tmp_path):
    network = Variadic()
    first, second, third, scale = (torch.randn(2, 3) for _ in range(4))
    names = input_names(network, (first, second, (third,)), {"scale": scale})
    assert names == ["first", "rest_0", "rest_1_0", "scale"]


@pytest.mark.parametrize("name", DEPLOYABLE)
def test_outputs_that_are_inputs_run(name, tmp_path):
    network, example = ReturnsInputs(), (torch.randn(2, 3), torch.randn(2, 3))
    path = write_onnx(network, example, tmp_path / "model.onnx")
    onnx.checker.check_model(onnx.load(path), full_check=True)
    more = (torch.randn(5, 3), torch.randn(5, 3))
    with open_file(path, runtime=name, num_threads=1) as session:
        found = session.run(more)
    expected = tensors_of(network(*more))
    assert len(found) == len(expected) == 5
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other.detach(), atol=1e-5)


@pytest.mark.parametrize("num_inputs", [1, 2, 3])
def test_a_forward_of_any_arguments_is_written(num_inputs, tmp_path):
    network, example = AnyArguments(), tuple(torch.randn(num_inputs, 4, 3))
    path = write_onnx(network, example, tmp_path / "model.onnx")
    with open_file(path, runtime="onnxruntime", num_threads=1) as session:
        (found,) = session.run(example)
    np.testing.assert_allclose(found, network(*example).detach(), atol=1e-5)


def test_feed_goes_by_name_for_keywords_and_by_order_else():
    a, b = torch.zeros(1), torch.ones(1)
    assert feed(["a", "b"], {"b": b, "a": a}) == {"a": a.numpy(), "b": b.numpy()}
    assert feed(["x", "y"], (a, b)) == {"x": a.numpy(), "y": b.numpy()}
    with pytest.raises(ValueError, match="type that arrays have, got bfloat16; convert example"):
        feed(["x"], a.bfloat16())


@pytest.mark.parametrize("name", DEPLOYABLE)
def test_quantised_weights_stay_int8_in_the_file(name, tmp_path):
    network, example = QuantizedConv(), torch.randn(2, 3, 6, 6)
    path = write_onnx(network, example, tmp_path / "model.onnx")
    graph = onnx.load(path).graph
    assert [node.op_type for node in graph.node].count("DequantizeLinear") == 2
    assert onnx.TensorProto.INT8 in {item.data_type for item in graph.initializer}
    with open_file(path, runtime=name, num_threads=1) as session:
        (found,) = session.run(example)
    expected = network(example).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-2 * np.ptp(expected))


@pytest.mark.parametrize("network", [FixedBatch(), ControlFlow()])
def test_a_network_that_does_not_export_is_refused(network, tmp_path):
    network.train()
    with pytest.raises(ValueError, match="network must export to ONNX with a dynamic batch axis"):
        write_onnx(network, torch.zeros(2, 3), tmp_path / "model.onnx")
    assert network.training
    assert not any(tmp_path.iterdir())


def test_a_network_too_large_for_one_file_is_refused(monkeypatch, tmp_path):
    class EncodeError(Exception):
        pass

    def save(*_, **__):
        raise EncodeError("Failed to serialize proto")

    monkeypatch.setattr("torch.onnx.ONNXProgram.save", save)
    with pytest.raises(ValueError, match=r"smaller than 2 GiB .* one ONNX file, got 60 bytes of"):
        write_onnx(nn.Linear(4, 3), torch.randn(2, 4), tmp_path / "large.onnx")
    assert not list(tmp_path.iterdir())


def test_missing_packages_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(onnx_file, "is_export_available", lambda: False)
    with pytest.raises(ValueError, match=r"which are missing; .*'lightning-cost\[deploy\]'"):
        write_onnx(nn.Identity(), torch.zeros(2, 3), tmp_path / "model.onnx")


def test_nothing_is_printed_and_loggers_keep_their_levels(tmp_path, capfd):
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript")]
    levels = [logger.level for logger in loggers]
    streams = sys.stdout, sys.stderr
    write_onnx(nn.Linear(2, 2), torch.zeros(1, 2), tmp_path / "model.onnx")
    assert capfd.readouterr() == ("", "")
    assert [logger.level for logger in loggers] == levels
    assert (sys.stdout, sys.stderr) == streams


def test_an_unwritable_place_is_an_error_of_the_system(tmp_path):
    with pytest.raises(OSError, match="path must lie in a folder that exists, got"):
        write_onnx(nn.Linear(2, 2), torch.zeros(1, 2), tmp_path / "missing" / "model.onnx")
