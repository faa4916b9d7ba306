import resource
import warnings

import pytest
import torch
import torch.ao.quantization.fx._decomposed
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lightning_cost.cost.flop_counter import FlopCounter
from lightning_cost.cost.macs import count_macs
from lightning_cost.cost.size import count_params
from lightning_cost.cost.training_flops import count_training_flops
from lightning_cost.zoo.mobilenet import mobilenet_v2_small
from lightning_cost.zoo.resnet import resnet8

IMAGE = torch.zeros(1, 3, 16, 16)


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
    "plain": (
        nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 3, 3)),
        torch.zeros(2, 2, 8, 8),
    ),
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
    assert on_cpu.by_module == on_meta.by_module
    assert on_cpu.unsupported == on_meta.unsupported
    assert on_cpu.total == on_meta.total > 0


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


class SharedTwice(nn.Module):
    """A layer that is called twice, and one that has its weight."""

    def __init__(self):
        super().__init__()
        self.first, self.other = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        self.other.weight = self.first.weight

    def forward(self, x):
        return self.other(self.first(self.first(x)))


def test_shared_weights_count_once_in_params_and_in_each_call_in_macs():
    network = SharedTwice()
    assert count_params(network) == 16
    report = count_macs(network, torch.zeros(1, 4))
    assert report.total == 3 * 16
    assert report.by_module == {"": 48, "first": 32, "other": 16}
    assert report.unused == ()


class PartlyUsed(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.act, self.drop = nn.Linear(4, 4), nn.ReLU(), nn.Dropout()
        self.head = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        self.spare = nn.ModuleList([nn.Linear(4, 4), nn.Identity()])
        self.weights_alone = nn.Linear(4, 4)
        self.nothing = nn.ModuleDict()

    def forward(self, x):
        return nn.functional.linear(self.head[0](self.used(x)), self.weights_alone.weight)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_modules_that_never_ran_are_listed(device):
    report = count_macs(PartlyUsed().to(device), torch.zeros(1, 4, device=device))
    assert report.unused == ("act", "head.1", "spare")


class Pair(nn.Module):
    """Takes and returns nested things."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(3, 4), nn.Conv1d(2, 5, 3)

    def forward(self, features, *, images):
        return {"left": self.left(features["a"][0]), "right": (self.right(images), None)}


def test_nested_inputs_and_outputs():
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.pair = Pair()

        def forward(self, features, images):
            return self.pair(features, images=images)

    example = {"features": {"a": [torch.zeros(7, 3)]}, "images": torch.zeros(7, 2, 8)}
    report = count_macs(Outer(), example)
    assert report.total == 12 + 6 * 2 * 3 * 5
    assert report.activations == 4 + 5 * 6
    assert report.activations_by_module["pair.right"] == 30


def test_activations_are_those_of_fvcore():
    network, example = resnet8(in_channels=3).eval(), torch.zeros(1, 3, 32, 32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from fvcore.nn import ActivationCountAnalysis

        analysis = ActivationCountAnalysis(network, example)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        reference, by_module = analysis.total(), analysis.by_module()
    report = count_macs(network, example)
    assert report.activations == reference
    assert report.activations_by_module == {name: by_module[name] for name in report.by_module}


def test_operators_add_up_to_the_total():
    report = count_macs(small_resnet(), torch.zeros(1, 3, 16, 16))
    assert report.by_operator == {"aten.convolution": report.total - 80, "aten.addmm": 80}
    assert report.activations_by_operator.keys() == report.by_operator.keys()
    assert report.activations == report.activations_by_module[""]


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.parametrize("script", [torch.jit.script, lambda m: torch.jit.trace(m, IMAGE)])
def test_children_of_torchscript_have_their_macs_by_their_weights(script):
    plain = nn.Sequential(small_resnet(4, 1), nn.ReLU()).eval()
    expected = count_macs(plain, IMAGE)
    network = nn.Sequential(script(plain[0]), nn.ReLU())
    report = count_macs(network, IMAGE)
    assert report.total == expected.total
    assert report.by_module == expected.by_module
    assert report.unused == ()


def test_children_of_an_exported_graph_have_their_macs_by_their_weights():
    plain = small_resnet(4, 1).eval()
    expected = count_macs(plain, IMAGE)
    network = nn.Sequential(torch.export.export(plain, (IMAGE,), strict=False).module())
    report = count_macs(network, IMAGE)
    assert report.total == expected.total
    assert report.by_module["0.1.conv1"] == expected.by_module["1.conv1"]
    assert report.unused == ()


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "num_layers": 3}])
def test_recurrent_layers_in_closed_form(kind, device, options):
    network = kind(5, 7, batch_first=True, **options).to(device)
    matrices = sum(p.numel() for p in network.parameters() if p.dim() == 2)
    report = count_macs(network, torch.zeros(2, 6, 5, device=device))
    assert report.total == 6 * matrices
    assert report.unsupported == ()


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_packed_sequences_count_their_own_steps(kind, device):
    network = kind(5, 7, 2, bidirectional=True)
    matrices = sum(p.numel() for p in network.parameters() if p.dim() == 2)
    packed = nn.utils.rnn.pack_sequence([torch.zeros(4, 5), torch.zeros(3, 5), torch.zeros(1, 5)])
    if device == "meta":
        network, packed = network.to(device), packed.to(device)
        one = nn.utils.rnn.PackedSequence(packed.data[:4], torch.ones(4, dtype=torch.int64))
        assert count_macs(network, one).total == 4 * matrices
    else:
        assert count_macs(network, packed).total == 4 * matrices  # of the first sequence
    with torch.no_grad(), FlopCounter() as counter:
        network(packed)
    assert counter.total == 2 * 8 * matrices


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_attention_modules_in_closed_form(device, need_weights, shared):
    attention = nn.MultiheadAttention(
        8, 2, batch_first=True, **({} if shared else {"kdim": 6, "vdim": 4})
    )
    network = Call(lambda q, k, v: attention(q, k, v, need_weights=need_weights)[0])
    network.attention = attention
    example = [torch.zeros(3, 5, 8), torch.zeros(3, 7, 8 if shared else 6)]
    example.append(torch.zeros(3, 7, 8 if shared else 4))
    report = count_macs(network.to(device), tuple(tensor.to(device) for tensor in example))
    projections = 2 * 5 * 8 * 8 + 7 * 8 * (16 if shared else 10)
    assert report.total == projections + 2 * 5 * 7 * 8
    assert report.unused == ()


KERNELS = [SDPBackend.MATH, SDPBackend.FLASH_ATTENTION]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("causal", [True, False])
def test_every_kernel_of_attention_counts_the_same(kernel, causal):
    def attend(query, key, value):
        with sdpa_kernel(kernel):
            return nn.functional.scaled_dot_product_attention(query, key, value, is_causal=causal)

    example = tuple(torch.zeros(1, 2, 6, 8) for _ in range(3))
    assert count_macs(Call(attend), example).total == 2 * 2 * 6 * 6 * 8


def test_grouped_query_attention_counts_every_query_head():
    def attend(query, key, value):
        return nn.functional.scaled_dot_product_attention(query, key, value, enable_gqa=True)

    example = (torch.zeros(1, 4, 6, 8), torch.zeros(1, 2, 6, 8), torch.zeros(1, 2, 6, 8))
    for device in ("cpu", "meta"):
        moved = tuple(tensor.to(device) for tensor in example)
        assert count_macs(Call(attend), moved).total == 2 * 4 * 6 * 6 * 8


class Block(nn.Module):
    """A decoder layer as in GPT."""

    def __init__(self, width, num_heads):
        super().__init__()
        self.num_heads = num_heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x):
        batch, length, width = x.shape
        heads = self.qkv(self.norm1(x)).view(batch, length, 3, self.num_heads, -1)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp(self.norm2(x))


class Decoder(nn.Module):
    def __init__(self, width, num_layers, num_heads, num_tokens, length):
        super().__init__()
        self.tokens, self.places = nn.Embedding(num_tokens, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(*[Block(width, num_heads) for _ in range(num_layers)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, num_tokens, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, tokens):
        x = self.tokens(tokens) + self.places.weight[: tokens.shape[1]]
        return self.head(self.norm(self.blocks(x)))


def test_a_transformer_of_175_billion_parameters_is_counted_without_allocating_it():
    width, num_layers, length, num_tokens = 12_288, 96, 2048, 50_257
    with torch.device("meta"):
        network = Decoder(width, num_layers, 96, num_tokens, length)
        tokens = torch.zeros(1, length, dtype=torch.long)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = count_macs(network, tokens)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # KiB
    assert 174e9 < count_params(network) < 176e9
    layer = 12 * width**2 + 2 * length * width
    assert report.total == length * (num_layers * layer + width * num_tokens)
    assert report.unused == report.unsupported == ()


def test_training_of_a_transformer_takes_three_times_the_forward_pass_on_meta():
    with torch.device("meta"):
        network, tokens = Decoder(32, 2, 4, 50, 16), torch.zeros(1, 16, dtype=torch.long)
    assert count_training_flops(network, tokens) == 3 * count_macs(network, tokens).flops
