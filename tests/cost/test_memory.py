from itertools import pairwise

import pytest
import torch
import torch.ao.quantization.fx._decomposed
from torch import nn

from lightning_cost.cost.memory import peak_memory_bytes


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 16), nn.Linear(16, 4)

    def forward(self, x):
        return self.second(self.first(x).relu()) + x


class Hoarder(nn.Module):
    """Keeps Python references to all that it computes."""

    def __init__(self, layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.kept = []

    def forward(self, x):
        for layer in self.layers:
            self.kept.append(x)
            x = layer(x)
        return x


class Quantized(nn.Module):
    """Two convolutions of int8 with a ReLU between, as deployed."""

    def __init__(self, width):
        super().__init__()
        self.register_buffer("first", torch.ones(width, 1, 1, 1, dtype=torch.int8))
        self.register_buffer("second", torch.ones(width, width, 1, 1, dtype=torch.int8))

    def forward(self, x):
        x = nn.functional.conv2d(self._recoded(x), self._weight(self.first)).relu()
        x = nn.functional.conv2d(self._recoded(x), self._weight(self.second)).relu()
        return self._recoded(x).mean((2, 3))

    def _recoded(self, x):
        ops = torch.ops.quantized_decomposed
        x = ops.quantize_per_tensor(x, 0.1, 0, 0, 255, torch.uint8)
        return ops.dequantize_per_tensor(x, 0.1, 0, 0, 255, torch.uint8)

    def _weight(self, weight):
        scale, zero = torch.ones(len(weight)), torch.zeros(len(weight), dtype=torch.int64)
        return torch.ops.quantized_decomposed.dequantize_per_channel(
            weight, scale, zero, 0, -127, 127, torch.int8
        )


def chain(*sizes):
    return [nn.Linear(a, b) for a, b in pairwise(sizes)]


@pytest.mark.parametrize(
    ("network", "num_values"),
    [
        (nn.Sequential(*chain(4, 16, 8, 2)), 16 + 8),
        (nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2)), 4 + 16),
        (nn.Sequential(nn.Linear(4, 16), nn.ReLU(inplace=True), nn.Linear(16, 2)), 4 + 16),
        (nn.Sequential(nn.Linear(4, 16), nn.Softmax(-1)), 16 + 16),
        (Residual(), 4 + 16 + 4),
        (Hoarder(chain(4, 16, 8, 2)), 16 + 8),
        (nn.Identity(), 4),
        (nn.Flatten(), 4),
    ],
)
@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_peak_has_the_closed_form(network, num_values, device, batch_size):
    example = torch.zeros(batch_size, 4, device=device)
    network = network.to_empty(device=device) if device == "meta" else network
    assert peak_memory_bytes(network, example) == 4 * num_values
    network.to_empty(device="cpu")


def test_a_chain_of_convolutions_peaks_at_its_largest_pair():
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, stride=2))
    assert peak_memory_bytes(network, torch.zeros(1, 3, 10, 10)) == 4 * (300 + 800)


def test_a_quantised_network_stores_a_byte_for_each_value():
    width, pixels = 16, 64
    quantised = peak_memory_bytes(Quantized(width), torch.zeros(1, 1, 8, 8))
    assert quantised == 2 * width * pixels


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_a_batch_takes_as_many_times_the_memory(batch_size):
    network = nn.Sequential(*chain(4, 16, 8, 2))
    peak = peak_memory_bytes(network, torch.zeros(3, 4), batch_size=batch_size)
    assert peak == batch_size * 4 * (16 + 8)


def test_whole_layer_kernels_hide_nothing():
    """In evaluation mode attention would be one operator, whose scores nobody sees."""
    layer = nn.TransformerEncoderLayer(4, 1, 4, batch_first=True).eval()
    assert peak_memory_bytes(layer, torch.zeros(1, 8, 4)) >= 4 * 8 * (4 + 12)


def test_a_sparse_activation_is_counted_without_a_storage():
    class Sparse(nn.Module):
        def forward(self, x):
            return torch.sparse.mm(x.to_sparse(), x.T)

    assert peak_memory_bytes(Sparse(), torch.eye(4)) > 0
