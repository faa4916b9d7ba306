import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lightning_cost.quantization.bias import quantize_bias
from lightning_cost.quantization.fake_quantizers import (
    ActivationFakeQuantizer,
    freeze_observers,
)


def observed(*batches):
    quantizer = ActivationFakeQuantizer().train()
    for batch in batches:
        quantizer(batch)
    return quantizer


def test_activations_follow_the_equation_of_onnx():
    x = torch.randn(100)
    values, quantizer = x.double().numpy(), observed(x).eval()
    scale = (values.max() - values.min()) / 255
    zero_point = np.rint(-values.min() / scale)
    stored = np.clip(np.rint(values / scale) + zero_point, 0, 255)
    assert np.allclose(quantizer(x), (stored - zero_point) * scale, atol=1e-6)
    assert len(quantizer(torch.linspace(-9, 9, 10_000)).unique()) == 256


def test_zero_is_on_the_grid_whatever_the_range():
    for x in (torch.tensor([3.0, 4.0]), torch.tensor([-4.0, -3.0]), torch.zeros(3)):
        assert observed(x).eval()(torch.zeros(1)) == 0


def test_gradient_is_cut_outside_the_range():
    quantizer = observed(torch.tensor([-1.0, 1.0])).eval()
    x = torch.tensor([-3.0, 0.2, 3.0], requires_grad=True)
    quantizer(x).sum().backward()
    assert x.grad.tolist() == [0, 1, 0]


@settings(deadline=None)
@given(
    low=st.floats(-100, 0, width=32),
    high=st.floats(0, 100, width=32),
    seed=st.integers(0, 1000),
)
def test_rounds_to_the_last_bit_as_torch_does(low, high, seed):
    quantizer = observed(torch.tensor([low, high])).eval()
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(200, generator=generator) * max(-low, high, 1e-3)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    rounded = quantizer(ours)
    expected = torch.fake_quantize_per_tensor_affine(theirs, *quantizer.grid(), 0, 255)
    assert torch.equal(rounded, expected)
    for result in (rounded, expected):
        result.sum().backward()
    assert torch.equal(ours.grad, theirs.grad)


def test_range_is_the_mean_of_the_extremes_then_a_moving_average():
    quantizer = ActivationFakeQuantizer().train()
    for value in range(1, 101):
        quantizer(torch.tensor([-2.0 * value, float(value)]))
    assert quantizer.max_value == pytest.approx(50.5, rel=1e-5)
    assert quantizer.min_value == pytest.approx(-101, rel=1e-5)
    quantizer(torch.tensor([0.0, 150.5]))
    assert quantizer.max_value == pytest.approx(51.5, rel=1e-5)


def test_does_not_observe_in_evaluation_nor_when_frozen():
    quantizer = observed(torch.tensor([-1.0, 1.0]))
    before = copy.deepcopy(quantizer.state_dict())
    quantizer.eval()(torch.tensor([9.0]))
    freeze_observers(nn.Sequential(quantizer))
    quantizer.train()(torch.tensor([9.0]))
    for name in ("min_value", "max_value", "num_observed"):
        assert torch.equal(quantizer.state_dict()[name], before[name])


def learned_and_frozen():
    quantizer = ActivationFakeQuantizer("learned").train()
    quantizer.observe(torch.tensor([-1.0, 1.0]))
    network = nn.Sequential(nn.Linear(3, 3), quantizer)
    x = torch.randn(8, 3)
    network(x).square().sum().backward()
    assert quantizer.factor.grad
    network.zero_grad()
    freeze_observers(network)
    return network, x


def test_a_learned_range_does_not_train_when_frozen():
    network, x = learned_and_frozen()
    output = network(x)
    output.square().sum().backward()
    assert network[1].factor.grad is None
    assert network[0].weight.grad.any()


def test_a_frozen_range_is_in_the_graph_as_distributed_training_expects():
    network, x = learned_and_frozen()
    inputs = [node for node, _ in network(x).grad_fn.next_functions if node is not None]
    assert any(getattr(node, "variable", None) is network[1].factor for node in inputs)


def test_passes_values_before_the_first_observation_and_an_empty_batch():
    quantizer = ActivationFakeQuantizer()
    assert quantizer.eval()(torch.tensor([1.2345])).item() == pytest.approx(1.2345)
    assert quantizer.train()(torch.zeros(0, 3)).shape == (0, 3)
    assert not quantizer.num_observed


def test_bfloat16_stays_bfloat16():
    x = torch.randn(10).bfloat16()
    quantizer = observed(x)
    assert quantizer(x).dtype is torch.bfloat16
    assert quantizer.max_value.dtype is torch.float32


def test_frozen_state_is_in_the_state_dict():
    quantizer = observed(torch.tensor([-1.0, 1.0]))
    freeze_observers(quantizer)
    loaded = ActivationFakeQuantizer()
    loaded.load_state_dict(quantizer.state_dict())
    assert not loaded.observer_enabled
    x = torch.randn(9)
    assert torch.equal(loaded(x), quantizer(x))


def test_bias_of_a_vanishing_filter_fits():
    bias, weight_scale = torch.tensor([1.0, 1.0]), torch.tensor([1e-2, 1e-12])
    values, scale = quantize_bias(bias, weight_scale=weight_scale, input_scale=torch.tensor(1e-2))
    assert values.tolist() == [10_000, 2**30]
    assert torch.allclose(values * scale, bias)
