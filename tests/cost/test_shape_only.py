"""Closed-form shapes against those that PyTorch computes on the CPU."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from lightning_cost.cost.forward import tensors_of
from lightning_cost.cost.macs import count_macs
from lightning_cost.cost.memory import peak_memory_bytes
from lightning_cost.cost.shape_only import ShapeOnly
from lightning_cost.zoo.mobilenet import mobilenet_v2_small
from lightning_cost.zoo.resnet import resnet8


def same(run, *shapes, **options):
    """Shapes and dtypes on meta, under the mode, are those on the CPU."""
    known = tensors_of(run(*(torch.zeros(shape, **options) for shape in shapes)))
    with ShapeOnly():
        found = tensors_of(run(*(torch.zeros(shape, device="meta", **options) for shape in shapes)))
    assert all(tensor.is_meta for tensor in found)
    told = [(tensor.shape, tensor.dtype) for tensor in found]
    assert told == [(tensor.shape, tensor.dtype) for tensor in known]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 3),
    st.lists(st.integers(5, 9), min_size=1, max_size=3),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(0, 2),
    st.integers(1, 2),
    st.booleans(),
)
def test_convolutions(groups, sizes, kernel, stride, padding, dilation, has_bias):
    convolve = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[len(sizes)]

    def run(images, weight, bias):
        bias = bias if has_bias else None
        return convolve(images, weight, bias, stride, padding, dilation, groups)

    weight = (2 * groups, 2, *[kernel] * len(sizes))
    same(run, (2, 2 * groups, *sizes), weight, (2 * groups,))


@pytest.mark.parametrize(
    "run",
    [
        torch.relu,
        F.gelu,
        F.silu,
        F.hardswish,
        torch.sigmoid,
        torch.tanh,
        lambda x: F.relu6(x),
        lambda x: F.leaky_relu(x, 0.1),
        lambda x: F.relu(x, inplace=True),
        lambda x: x.clamp(min=0.0),
        lambda x: x + x,
        lambda x: x * 2,
        lambda x: x + torch.zeros(3, 1, dtype=x.dtype, device=x.device),
        lambda x: x * torch.zeros(3, 1, dtype=torch.int64, device=x.device),
        lambda x: F.batch_norm(x, *torch.ones(4, 3, dtype=x.dtype, device=x.device)),
        lambda x: F.conv_transpose1d(x, torch.zeros(3, 2, 3, dtype=x.dtype, device=x.device)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_other_operators(run, dtype):
    same(run, (2, 3, 5), dtype=dtype)


def test_integers_become_floats_where_they_do():
    same(torch.sigmoid, (2, 3), dtype=torch.int64)


def test_what_is_wrong_is_still_refused():
    with ShapeOnly(), pytest.raises(RuntimeError, match="Invalid channel dimensions"):
        F.conv2d(torch.zeros(1, 3, 4, 4, device="meta"), torch.zeros(2, 5, 3, 3, device="meta"))


def test_what_is_not_on_meta_is_computed():
    with ShapeOnly():
        assert torch.relu(torch.tensor([-1.0, 2.0])).tolist() == [0.0, 2.0]


@pytest.mark.parametrize("build", [resnet8, mobilenet_v2_small])
def test_a_network_costs_what_it_costs(build):
    example = torch.zeros(1, 3, 32, 32)
    network = build(width=8)
    macs, peak = count_macs(network, example), peak_memory_bytes(network, example)
    with ShapeOnly():
        with torch.device("meta"):
            network = build(width=8)
        assert count_macs(network, example.to("meta")) == macs
        assert peak_memory_bytes(network, example.to("meta")) == peak
