import io

import pytest
import torch
from torch import nn

from lightning_cost.cost.size import (
    count_params,
    params_by_module,
    size_by_dtype,
    size_by_module,
    size_bytes,
)
from lightning_cost.network.deploy import deployed_copy


def tied():
    network = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    network[1].weight = network[0].weight
    return network


def sharing_storage():
    network = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    network[1].weight = nn.Parameter(network[0].weight.detach().t())
    return network


def slice_of_a_large_storage():
    network = nn.Linear(4, 4, bias=False)
    network.weight = nn.Parameter(torch.zeros(100, 4)[:4])
    return network


def with_int8_weight():
    network = nn.Module()
    network.register_buffer("weight", torch.zeros(8, 4, dtype=torch.int8))
    network.register_buffer("scale", torch.ones(8))
    return network


@pytest.mark.parametrize(
    ("network", "num_params", "num_bytes"),
    [
        (nn.Conv2d(3, 8, 3), 224, 896),
        (nn.BatchNorm2d(8), 16, 128),
        (nn.Linear(4, 4).half(), 20, 40),
        (tied(), 16, 64),
        (sharing_storage(), 32, 64),
        (slice_of_a_large_storage(), 16, 64),
        (nn.Identity(), 0, 0),
    ],
)
def test_sizes_have_the_closed_form(network, num_params, num_bytes):
    assert count_params(network) == num_params
    assert size_bytes(network) == num_bytes


def test_tensors_without_data_are_not_taken_for_one_another():
    with torch.device("meta"):
        network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    network[1].weight = network[0].weight
    assert size_bytes(network) == 4 * (16 + 4 + 4)


def test_integer_weights_count_as_parameters_and_take_a_byte_each():
    assert count_params(with_int8_weight()) == 8 * 4
    assert size_bytes(with_int8_weight()) == 8 * 4 + 8 * 4


def test_size_is_close_to_that_of_the_saved_file():
    network = nn.Sequential(nn.Linear(200, 200), nn.Linear(200, 200).half())
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    assert size_bytes(network) == pytest.approx(file.tell(), rel=0.02)


def mixed():
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2).half(), with_int8_weight())
    network.add_module("again", network[0])
    return network


def test_sizes_by_dtype_add_up():
    sizes = size_by_dtype(mixed())
    assert sizes == {"float32": 80 + 32, "int8": 32, "float16": 20}
    assert sum(sizes.values()) == size_bytes(mixed())
    assert size_by_dtype(nn.Identity()) == {}
    assert size_by_dtype(sharing_storage()) == {"float32": 64}


def test_each_module_has_what_it_holds_and_shared_weights_count_once_in_the_whole():
    params, sizes = params_by_module(tied()), size_by_module(tied())
    assert params == {"": 16, "0": 16, "1": 16}
    assert sizes == {"": 64, "0": 64, "1": 64}
    assert params_by_module(mixed())["2"] == 32


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("is_tied", [True, False])
def test_the_deployed_copy_is_as_large_as_the_file_that_is_deployed(is_tied):
    """An ONNX file holds a tied weight once, and two views of the same memory twice."""
    network = nn.Sequential(*[nn.Linear(256, 256, bias=False) for _ in range(2)])
    weight = network[0].weight
    network[1].weight = weight if is_tied else nn.Parameter(weight.detach().t())
    example, file = torch.zeros(1, 256), io.BytesIO()
    deployed = deployed_copy(network, example)
    torch.onnx.export(deployed, (example,), dynamo=True, verbose=False).save(file)
    assert size_bytes(deployed) == pytest.approx(file.tell(), rel=0.02)
