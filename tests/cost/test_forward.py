import random
from collections import UserDict
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from lightning_cost.cost.forward import (
    batch_size_of,
    map_tensors,
    observing,
    run_forward,
    tensors_of,
    with_batch_size,
)


class Difference(nn.Module):
    def forward(self, a, b):
        return a - 2 * b


class Intruder(nn.Module):
    """Changes everything that a forward pass can change, and perhaps fails."""

    def __init__(self, *, fails):
        super().__init__()
        self.fails = fails
        self.weight = nn.Parameter(torch.ones(2))
        self.norm = nn.BatchNorm1d(2)
        self.dropout = nn.Dropout(0.5)
        self.register_buffer("count", torch.zeros(1))
        self.register_buffer("replaced", torch.zeros(2))
        self.register_buffer("late", None)
        self.modes = None

    def forward(self, x):
        self.modes = self.modes or [module.training for module in self.modules()]
        self.count += 1
        self.replaced = torch.full((3,), torch.nan)
        self.late = torch.ones(1)
        self.register_buffer("extra", torch.ones(1))
        with torch.enable_grad():
            (self.weight * torch.rand(2)).sum().backward()
        random.random(), np.random.rand()
        if self.fails:
            raise KeyError("on purpose")
        return self.norm(x)


def test_example_may_be_a_tensor_a_tuple_or_a_dict():
    a, b = torch.tensor([5.0]), torch.tensor([1.0])
    assert run_forward(nn.Identity(), a) is a
    assert run_forward(Difference(), (a, b)).item() == 3
    assert run_forward(Difference(), {"b": b, "a": a}).item() == 3


@pytest.mark.parametrize("function", [lambda e: run_forward(nn.Identity(), e), batch_size_of])
def test_another_example_is_refused(function):
    with pytest.raises(TypeError, match=r"example must be a tensor, a tuple .* got list; wrap it"):
        function([torch.zeros(1)])


def test_batch_size_is_the_first_dimension_of_the_first_tensor_that_has_one():
    assert batch_size_of((torch.tensor(7.0), {"x": torch.zeros(3, 2)})) == 3


@pytest.mark.parametrize(
    ("example", "found"),
    [
        (torch.zeros(0, 3), r"float32 \[0, 3\]"),
        ((torch.zeros(2, 3, 0, 5), torch.zeros(2)), r"float32 \[2, 3, 0, 5\] on cpu"),
        ((torch.tensor(1.0), "text"), "no tensor"),
    ],
)
def test_an_example_without_samples_is_refused(example, found):
    with pytest.raises(ValueError, match=f"example must hold at least one sample.*{found}"):
        batch_size_of(example)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_batch_is_cut_or_repeated_and_the_rest_kept(size):
    batch, table, number = torch.arange(3.0)[:, None], torch.zeros(5, 2), torch.tensor(4.0)
    resized = with_batch_size({"x": (batch, table), "n": number, "flag": True}, size)
    assert resized["x"][0].ravel().tolist() == [i % 3 for i in range(size)]
    assert resized["x"][1] is table
    assert resized["n"] is number
    assert resized["flag"] is True


@dataclass
class Features:
    image: torch.Tensor
    scale: int


def test_tensors_in_dataclasses_and_mappings_are_found_and_changed():
    nested = {"a": Features(torch.zeros(2, 3), 4), "b": UserDict(c=[torch.ones(2)])}
    assert [tensor.shape for tensor in tensors_of(nested)] == [(2, 3), (2,)]
    cut = with_batch_size(nested, 1)
    assert [tensor.shape for tensor in tensors_of(cut)] == [(1, 3), (1,)]
    assert cut["a"].scale == 4
    assert [tensor.dtype for tensor in tensors_of(map_tensors(torch.Tensor.half, nested))] == [
        torch.float16
    ] * 2
    assert tensors_of(nested)[0].shape == (2, 3)


@pytest.mark.parametrize("wrap", [lambda packed: packed, lambda packed: (packed,)])
def test_a_packed_sequence_is_cut_and_repeated_by_sequences(wrap):
    rows = [torch.arange(float(n))[:, None] for n in (2, 4, 3)]
    packed = nn.utils.rnn.pack_sequence(rows, enforce_sorted=False)
    assert batch_size_of(wrap(packed)) == 3
    for size, lengths in ((1, [2]), (2, [2, 4]), (3, [2, 4, 3]), (4, [2, 4, 3, 2])):
        resized = with_batch_size(wrap(packed), size)
        output, _ = run_forward(nn.RNN(1, 2), resized)
        unpacked = nn.utils.rnn.unpack_sequence(output)
        assert [len(sequence) for sequence in unpacked] == lengths


@pytest.mark.parametrize("fails", [False, True])
def test_observing_leaves_the_network_as_it_was_found(fails):
    network = Intruder(fails=fails).train()
    network.norm.eval()
    network.weight.grad = gradient = torch.full((2,), 7.0)
    buffers = dict(network.named_buffers(remove_duplicate=False))
    values = {name: buffer.clone() for name, buffer in buffers.items()}
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()

    try:
        with observing(network):
            assert not torch.is_grad_enabled()
            run_forward(network, torch.ones(4, 2))
    except KeyError:
        assert fails

    assert network.modes == [False] * 3
    assert [network.training, network.norm.training, network.dropout.training] == [1, 0, 1]
    assert network.weight.grad is gradient
    assert gradient.tolist() == [7.0, 7.0]
    assert dict(network.named_buffers(remove_duplicate=False)).keys() == buffers.keys()
    for name, buffer in network.named_buffers():
        assert buffer is buffers[name]
        assert torch.equal(buffer, values[name])
    assert network.late is None
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.random.get_state()[2] == states[2][2]
    assert torch.is_grad_enabled()


def test_observing_does_not_touch_buffers_that_did_not_change():
    network = nn.BatchNorm1d(2)
    version = network.running_mean._version
    with observing(network):
        network(torch.ones(2, 2))
    assert network.running_mean._version == version


def test_observing_leaves_inference_mode_for_the_time_being():
    with torch.inference_mode():
        with observing(nn.Identity()):
            assert not torch.is_inference_mode_enabled()
        assert torch.is_inference_mode_enabled()
