import torch
import torch.nn.functional as F
from torch import nn

from lightning_cost.network.dataflow import trace_dataflow


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x, *, scale):
        y = self.conv(x)
        assert y.shape[0] == 1  # asking for a shape is not reading
        z = y * scale
        z += y
        return self.relu(z)


def traced():
    network = Branching()
    example = {"x": torch.randn(1, 1, 3, 3), "scale": torch.ones(1)}
    return trace_dataflow(network, example), example


def test_calls_in_the_order_in_which_they_end():
    dataflow, example = traced()
    assert [call.module for call in dataflow.calls] == ["conv", "relu", ""]
    conv, relu, whole = dataflow.calls
    assert [value.tensor for value in whole.inputs] == [id(value) for value in example.values()]
    assert conv.inputs == whole.inputs[:1]
    assert whole.outputs == relu.outputs
    assert conv.returns_tensor


def test_change_in_place_makes_another_value():
    dataflow, _ = traced()
    relu = dataflow.calls[1]
    assert relu.inputs[0].tensor == relu.outputs[0].tensor
    assert relu.inputs[0].version < relu.outputs[0].version


def test_readers():
    dataflow, _ = traced()
    conv, relu, _ = dataflow.calls
    assert len(dataflow.readers_of(conv.outputs[0])) == 2
    (read,) = dataflow.readers_of(relu.inputs[0])
    assert read.function is F.relu
    assert read.outputs == relu.outputs
    assert [read.function for read in dataflow.readers_of(relu.outputs[0])] == [None]


def test_called_once():
    relu = nn.ReLU()
    network = nn.Sequential(nn.Linear(1, 1), relu, nn.Linear(1, 1), relu)
    dataflow = trace_dataflow(network, torch.randn(1, 1))
    assert [call.module for call in dataflow.called_once()] == ["0", "2", ""]
    assert len(dataflow.calls_of("1")) == 2
