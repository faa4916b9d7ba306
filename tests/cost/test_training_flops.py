import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lightning_cost.cost.macs import count_macs
from lightning_cost.cost.training_flops import count_training_flops, training_flops
from tests.cost.test_macs import NETWORKS, Attention, Call, small_resnet


def test_a_network_without_gradients_has_no_backward_pass_and_says_so():
    report = training_flops(nn.Linear(3, 4).requires_grad_(False), torch.zeros(1, 3))
    assert not report.has_backward
    assert report.per_sample == sum(report.by_operator.values()) == 24
    assert training_flops(nn.Linear(3, 4), torch.zeros(1, 3)).has_backward


def test_what_a_step_does_uncounted_is_named_its_backward_pass_too():
    report = training_flops(Call(lambda x: torch.fft.rfft(x).abs()), torch.ones(2, 4))
    assert report.unsupported == ("aten._fft_r2c",)
    image = torch.zeros(2, 1, 4, 4, requires_grad=True)
    grid = torch.zeros(2, 4, 4, 2)
    network = Call(lambda image, grid: nn.functional.grid_sample(image, grid, align_corners=True))
    assert training_flops(network, (image, grid)).unsupported == (
        "aten.grid_sampler_2d",
        "aten.grid_sampler_2d_backward",
    )


def test_depthwise_training_flops_in_closed_form():
    """The reference multiplies the gradient of depthwise weights by the number of channels."""
    width, pixels = 8, 64
    network = nn.Sequential(
        nn.Conv2d(3, width, 3, stride=2, padding=1),
        nn.Conv2d(width, width, 3, padding=1, groups=width),
    )
    first, second = pixels * 27 * width, pixels * 9 * width
    flops = count_training_flops(network, torch.zeros(1, 3, 16, 16))
    assert flops == 2 * (2 * first + 3 * second)


@pytest.mark.parametrize("name", ["plain", "gru", "conv3d", "transposed"])
def test_training_flops_are_those_of_the_reference_on_a_real_backward(name):
    network, example = NETWORKS[name]
    with FlopCounterMode(display=False) as reference:
        output = network.train()(example)
        (output[0] if isinstance(output, tuple) else output).sum().backward()
    network.zero_grad(set_to_none=True)
    assert count_training_flops(network, example[:1]) == reference.get_total_flops() // 2
    assert all(parameter.grad is None for parameter in network.parameters())


def test_attention_and_lstm_backward_are_counted():
    attention = tuple(torch.zeros(2, 2, n, 8, requires_grad=True) for n in (5, 6, 6))
    score = 2 * 2 * 5 * 6 * 8
    assert count_training_flops(Attention(), attention) == (2 + 5) * score
    lstm = nn.LSTM(5, 7, batch_first=True)
    forward = 2 * count_macs(lstm, torch.zeros(1, 3, 5)).total
    assert count_training_flops(lstm, torch.zeros(1, 3, 5)) == 3 * forward


def test_frozen_parameters_need_no_gradient():
    network, example = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), torch.zeros(1, 3)
    everything = count_training_flops(network, example)
    network[0].requires_grad_(False)
    assert everything == 2 * (12 + 8) + 2 * 12 + 2 * (8 + 8)
    assert count_training_flops(network, example) == 2 * (12 + 8) + 2 * 8
    network[1].requires_grad_(False)
    assert count_training_flops(network, example) == 2 * (12 + 8)


def test_training_flops_leave_the_network_as_it_was_found():
    network = small_resnet().eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    count_training_flops(network, torch.randn(1, 3, 16, 16))
    assert not network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
