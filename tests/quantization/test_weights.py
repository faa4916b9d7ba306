import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from lightning_cost.quantization.gradual import GradualRounding
from lightning_cost.quantization.norms import make_foldable
from lightning_cost.quantization.schemes.registry import get_scheme
from lightning_cost.quantization.schemes.uniform import Int8
from lightning_cost.quantization.terms import ChosenTerms
from lightning_cost.quantization.weights import FittedScale, LearnedScale, WeightFakeQuantizer
from tests.quantization.networks import SCHEMES

ROUNDINGS = [FittedScale, LearnedScale]


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_weight_is_the_product_of_integers_and_scale(scheme, rounding):
    weight = torch.randn(4, 3)
    rounded = rounding(get_scheme(scheme), weight)(weight)
    assert torch.equal(rounded.weight, rounded.values * rounded.scale[:, None])
    assert set(rounded.values.abs().flatten().tolist()) <= set(get_scheme(scheme).levels)


@pytest.mark.parametrize("rounding", [*ROUNDINGS, GradualRounding])
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_rounded_weight_lies_in_memory_as_the_weight(scheme, rounding, layout):
    weight = torch.randn(4, 6, 3, 3).to(memory_format=layout).requires_grad_()
    kind = ChosenTerms if scheme == "flightnn" else rounding
    rounded = kind(get_scheme(scheme), weight).train()(weight)
    assert rounded.weight.stride() == rounded.values.stride() == weight.stride()
    rounded.weight.backward(torch.ones_like(weight))
    assert weight.grad.stride() == weight.stride()


def test_weight_gradient_passes_unchanged():
    weight, gradient = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3)
    WeightFakeQuantizer(FittedScale(Int8(), weight))(weight).backward(gradient)
    assert torch.equal(weight.grad, gradient)


def test_fitted_scale_follows_the_weight_in_training_only():
    weight = torch.randn(4, 30)
    rounding = FittedScale(get_scheme("int4"), weight)
    before = rounding.scale.clone()
    rounding.eval()(1.02 * weight)
    assert torch.equal(rounding.scale, before)
    for step in range(35):  # to twice the weight, a little at a time
        rounding.train()(1.02 ** (step + 1) * weight)
    assert torch.allclose(rounding.scale, 1.02**35 * before, rtol=0.06)
    assert torch.equal(rounding.eval()(weight).weight, rounding.eval()(weight).weight)


@pytest.mark.parametrize("bits", [3, 8])
def test_learned_scale_has_the_gradient_of_torch(bits):
    torch.manual_seed(0)
    scheme, weight = get_scheme(f"int{bits}"), torch.randn(4, 50)
    gradient, limit = torch.randn(4, 50), scheme.levels[-1]
    ours = LearnedScale(scheme, weight)
    with torch.no_grad():
        ours.scale.mul_(0.7)  # so that some weights are clipped
        # torch takes half a step more to be inside than the paper
        steps = (weight / ours.scale[:, None]).abs()
        weight[(steps > limit) & (steps < limit + 0.5)] = 0
    x = weight.clone().requires_grad_()
    ours(x).weight.backward(gradient)
    scale, expected = ours.scale.detach().clone().requires_grad_(), weight.clone().requires_grad_()
    torch._fake_quantize_learnable_per_channel_affine(
        expected, scale, torch.zeros(4), 0, -limit, limit, (50 * limit) ** -0.5
    ).backward(gradient)
    assert torch.allclose(x.grad, expected.grad)
    assert torch.allclose(ours.scale.grad, scale.grad, rtol=1e-4)


def test_a_learned_scale_below_zero_has_the_gradient_of_its_magnitude():
    scheme, weight = get_scheme("int4"), torch.randn(3, 20)
    gradients = []
    for sign in (torch.ones(3), torch.tensor([-1.0, 1.0, -1.0])):
        rounding = LearnedScale(scheme, weight)
        with torch.no_grad():
            rounding.scale.mul_(sign)
        rounding(weight).weight.square().sum().backward()
        gradients.append(sign * rounding.scale.grad)
    assert gradients[0].all()
    assert torch.equal(*gradients)


def test_a_learned_scale_of_zero_moves_up_from_there():
    rounding = LearnedScale(get_scheme("int4"), torch.ones(1, 4))
    with torch.no_grad():
        rounding.scale.zero_()
    rounding(torch.ones(1, 4)).weight.sum().neg().backward()
    assert rounding.scale.grad < 0


def layer_with_norm():
    torch.manual_seed(0)
    layer, norm = nn.Conv2d(3, 5, 3, bias=False), nn.BatchNorm2d(5)
    with torch.no_grad():
        norm.weight.uniform_(-2, 2)
        norm.bias.normal_()
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return layer, norm


def test_a_folded_norm_scales_integers_and_changes_signs():
    layer, norm = layer_with_norm()
    rounding = FittedScale(get_scheme("power_of_two"), layer.weight)
    foldable = make_foldable(norm).eval()
    folded = WeightFakeQuantizer(rounding, foldable).eval().round(layer.weight)
    plain = rounding(layer.weight)
    expected = plain.weight * foldable.scale()[:, None, None, None]
    assert torch.allclose(folded.weight, expected, atol=1e-6)
    assert torch.equal(folded.weight, folded.values * folded.scale[:, None, None, None])
    assert torch.equal(folded.values.abs(), plain.values.abs())


def test_frozen_training_has_the_gradients_of_a_norm_in_evaluation():
    layer, norm = layer_with_norm()
    x = torch.randn(2, 3, 6, 6)
    reference = nn.Sequential(copy.deepcopy(layer), copy.deepcopy(norm)).eval()
    # 24 bits would show the same as no rounding at all; 8 bits are close enough to compare
    foldable = make_foldable(norm)
    foldable.freeze()
    parametrize.register_parametrization(
        layer, "weight", WeightFakeQuantizer(FittedScale(Int8(), layer.weight), foldable)
    )
    bias = foldable.shift(torch.zeros(5))
    output = foldable(layer(x)) + bias[:, None, None]
    expected = reference(x)
    assert torch.allclose(output, expected, atol=0.05)
    gradient = torch.randn_like(output)
    output.backward(gradient)
    expected.backward(gradient)
    found = [layer.parametrizations.weight.original.grad, norm.weight.grad, norm.bias.grad]
    wanted = [reference[0].weight.grad, reference[1].weight.grad, reference[1].bias.grad]
    for ours, theirs in zip(found, wanted, strict=True):
        assert torch.allclose(ours, theirs, rtol=0.02, atol=0.02 * float(theirs.abs().max()))
