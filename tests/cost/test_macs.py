import warnings

import pytest
import torch
import torch.ao.quantization.fx._decomposed
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lightning_cost.cost.macs import count_macs, count_training_flops
from lightning_cost.zoo.mobilenet import mobilenet_v2_small
from lightning_cost.zoo.resnet import resnet8


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, x):
        return self.conv2(self.relu(self.norm(self.conv1(x)))) + x


def small_resnet(width=8, num_blocks=2):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, stride=2, padding=1),
        *[Residual(width) for _ in range(num_blocks)],
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, 10),
    )


def closed_form(width, num_blocks, size):
    pixels = (size // 2) ** 2
    stem, block = 3 * 9 * width, 9 * width * width + 9 * width
    return pixels * (stem + num_blocks * block) + 10 * width


class QuantizedConv(nn.Module):
    """A convolution between quantise and dequantise operators, as deployed."""

    def __init__(self):
        super().__init__()
        self.register_buffer("weight", torch.randint(-127, 127, (4, 3, 3, 3), dtype=torch.int8))

    def forward(self, x):
        ops = torch.ops.quantized_decomposed
        x = ops.quantize_per_tensor(x, 0.1, 0, 0, 255, torch.uint8)
        x = ops.dequantize_per_tensor(x, 0.1, 0, 0, 255, torch.uint8)
        scale, zero = torch.ones(4), torch.zeros(4, dtype=torch.int64)
        weight = ops.dequantize_per_channel(self.weight, scale, zero, 0, -127, 127, torch.int8)
        return nn.functional.conv2d(x, weight)


class Attention(nn.Module):
    def forward(self, query, key, value):
        return nn.functional.scaled_dot_product_attention(query, key, value)


class Call(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *args):
        return self.function(*args)


@settings(max_examples=15, deadline=None)
@given(width=st.integers(1, 12), num_blocks=st.integers(0, 3), batch=st.integers(1, 3))
def test_a_residual_network_has_the_macs_of_the_closed_form(width, num_blocks, batch):
    network = small_resnet(width, num_blocks)
    report = count_macs(network, torch.zeros(batch, 3, 16, 16))
    assert report.total == closed_form(width, num_blocks, 16)
    assert report.flops == 2 * report.total
    assert report.unsupported == ()
    with torch.no_grad(), FlopCounterMode(display=False) as reference:
        network.eval()(torch.zeros(1, 3, 16, 16))
    assert report.flops == reference.get_total_flops()


@pytest.mark.parametrize("build", [resnet8, mobilenet_v2_small])
def test_agrees_with_fvcore_within_a_thousandth(build):
    network, example = build(in_channels=3).eval(), torch.zeros(1, 3, 32, 32)
    with warnings.catch_warnings():  # it stands on torch.jit, which warns of its age
        warnings.simplefilter("ignore", DeprecationWarning)
        from fvcore.nn import FlopCountAnalysis

        analysis = FlopCountAnalysis(network, example)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        by_operator = analysis.by_operator()
        by_module = analysis.by_module()
    reference = by_operator["conv"] + by_operator["linear"]
    report = count_macs(network, example)
    assert report.total == pytest.approx(reference, rel=1e-3)
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            assert report.by_module[name] == pytest.approx(by_module[name], rel=1e-3)


def test_each_module_has_the_macs_of_its_children_and_its_own():
    network = small_resnet(4, 1)
    report = count_macs(network, torch.zeros(1, 3, 8, 8))
    assert report.by_module.keys() == dict(network.named_modules()).keys()
    assert report.by_module[""] == report.total
    assert report.by_module["1"] == report.by_module["1.conv1"] + report.by_module["1.conv2"]
    assert report.by_module["1.conv2"] == 16 * 9 * 4
    assert report.by_module["1.relu"] == 0
    assert not any(module._forward_hooks for module in network.modules())


def test_a_module_called_twice_counts_twice_under_its_first_name():
    linear = nn.Linear(4, 4)
    report = count_macs(nn.Sequential(linear, nn.ReLU(), linear), torch.zeros(1, 4))
    assert report.total == report.by_module["0"] == 32


NETWORKS = {
    "residual": (small_resnet(), torch.zeros(2, 3, 16, 16)),
    "lstm": (nn.LSTM(5, 7, 2, bidirectional=True, batch_first=True), torch.zeros(2, 3, 5)),
    "gru": (nn.GRU(5, 7, batch_first=True), torch.zeros(2, 3, 5)),
    "transformer": (
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        torch.zeros(2, 6, 8),
    ),
    "conv3d": (nn.Conv3d(2, 3, 3), torch.zeros(2, 2, 5, 5, 5)),
    "transposed": (nn.ConvTranspose2d(2, 3, 3, stride=2), torch.zeros(2, 2, 5, 5)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_counts_on_meta_equal_those_on_the_cpu(name):
    network, example = NETWORKS[name]
    on_cpu = count_macs(network, example)
    on_meta = count_macs(network.to("meta"), example.to("meta"))
    network.to_empty(device="cpu")
    assert on_cpu == on_meta
    assert on_cpu.total > 0


@pytest.mark.parametrize(
    ("network", "example", "macs"),
    [
        (nn.Conv1d(4, 6, 3, groups=2), torch.zeros(1, 4, 10), 8 * 6 * 2 * 3),
        (
            nn.LSTM(5, 7, 2, bidirectional=True, batch_first=True),
            torch.zeros(1, 3, 5),
            3 * 2 * 28 * (5 + 7 + 14 + 7),
        ),
        (nn.GRU(5, 7, batch_first=True), torch.zeros(1, 3, 5), 3 * 21 * (5 + 7)),
        (Attention(), tuple(torch.zeros(1, 2, n, 8) for n in (5, 6, 6)), 2 * 2 * 5 * 6 * 8),
        (
            nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
            torch.zeros(1, 6, 8),
            6 * (4 * 8 * 8 + 2 * 8 * 16) + 2 * 6 * 6 * 8,
        ),
        (Call(lambda a: a[0] @ torch.ones(4)), torch.zeros(1, 3, 4), 12),
        (Call(lambda a: torch.einsum("bij,bjk->bik", a, a)), torch.zeros(1, 3, 3), 27),
        (QuantizedConv(), torch.zeros(1, 3, 6, 6), 16 * 4 * 27),
    ],
)
def test_operators_have_the_macs_of_their_closed_form(network, example, macs):
    report = count_macs(network, example)
    assert report.total == macs
    assert report.unsupported == ()


def test_work_that_is_not_counted_is_named():
    @torch.library.custom_op("lightning_cost_test::twice", mutates_args=())
    def twice(x: torch.Tensor) -> torch.Tensor:
        return 2 * x

    report = count_macs(Call(lambda x: twice(torch.fft.rfft(x.relu()).real)), torch.zeros(1, 4))
    assert report.total == 0
    assert report.unsupported == ("aten._fft_r2c", "lightning_cost_test.twice")


def test_counting_inside_inference_mode_is_not_zero():
    network, example = small_resnet(), torch.zeros(1, 3, 16, 16)
    expected = count_macs(network, example)
    with torch.inference_mode():
        assert count_macs(network, example) == expected
    inside = Call(torch.inference_mode()(lambda x: network(x)))
    assert count_macs(inside, example).total == expected.total


def test_a_compiled_network_counts_as_the_network_itself():
    network, example = small_resnet(), torch.zeros(1, 3, 16, 16)
    compiled = torch.compile(network, backend="eager")
    assert count_macs(compiled, example).total == count_macs(network, example).total


def test_an_error_of_the_network_leaves_nothing_behind():
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(4, 4))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        count_macs(network, torch.zeros(1, 3))
    assert not any(
        module._forward_hooks or module._forward_pre_hooks for module in network.modules()
    )
    assert torch.backends.mha.get_fastpath_enabled()
    assert network.training


@pytest.mark.parametrize("name", ["residual", "gru", "conv3d", "transposed"])
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
