import pytest
import torch
from torch import nn

from lightning_cost import export
from lightning_cost.network.deploy import deployed_copy
from lightning_cost.network.faithful import faithful_copy
from lightning_cost.network.lineage import apply_change
from lightning_cost.quantization.calibrate import calibrate
from lightning_cost.quantization.plan import plan_quantization
from lightning_cost.quantization.rules import QuantizationRules


class Doubled(nn.Module):
    """Runs a layer of its own, and runs it with other weights too."""

    def __init__(self):
        super().__init__()
        self.first, self.inner, self.last = nn.Linear(8, 12), nn.Linear(12, 12), nn.Linear(12, 3)

    def forward(self, x):
        weights = {name: 2 * value for name, value in self.inner.named_parameters()}
        hidden = self.first(x).relu()
        other = torch.func.functional_call(self.inner, weights, (hidden,))
        return self.last((self.inner(hidden) + other).relu())


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 3)

    def forward(self, x):
        return self.layer(x + torch.randn_like(x))


def quantised(x, **rules):
    torch.manual_seed(0)
    network = Doubled().eval()
    apply_change(network, plan_quantization(network, x, rules=QuantizationRules(**rules)))
    calibrate(network, [x])
    return network


def test_a_network_that_computes_something_else_once_converted_is_refused(tmp_path):
    x = torch.randn(4, 8)
    network = quantised(x)
    with pytest.raises(ValueError, match=r"differ by .*%.* by rules\.exclude"):
        export(network, tmp_path / "network.onnx", x)
    assert list(tmp_path.iterdir()) == []
    excluding = quantised(x, exclude=["inner"])
    assert torch.equal(deployed_copy(excluding, x)(x), excluding(x))
    assert export(excluding, tmp_path / "network.onnx", x).exists()


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf"), 1e30])
def test_extreme_outputs_are_not_taken_for_others(value):
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)).eval()
    with torch.no_grad():
        network[0].weight.fill_(value)
    assert isinstance(faithful_copy(network, torch.randn(2, 1, 4, 4))[1], nn.Identity)


def test_random_numbers_are_the_same_ones():
    network, x = Noisy(), torch.randn(4, 8)
    state = torch.get_rng_state()
    assert isinstance(faithful_copy(network, x), Noisy)
    assert torch.equal(torch.get_rng_state(), state)
    assert isinstance(faithful_copy(network.to("meta"), x), Noisy)
