import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lightning_cost.cost.macs import count_macs
from lightning_cost.network.deploy import deployed_copy
from lightning_cost.network.lineage import apply_change
from lightning_cost.quantization.calibrate import calibrate
from lightning_cost.quantization.plan import plan_quantization
from lightning_cost.quantization.rules import QuantizationRules
from lightning_cost.quantization.schemes.flightnn import FLightNN
from lightning_cost.quantization.schemes.powers import PowerOfTwo, sums_of_powers
from lightning_cost.quantization.terms import ChosenTerms, assign_terms

SHAPES = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 9)), min_size=1, max_size=4)


def layers(shapes, mean_terms, seed=0):
    generator = torch.Generator().manual_seed(seed)
    weights = [torch.randn(shape, generator=generator) for shape in shapes]
    scheme = FLightNN(mean_terms=mean_terms)
    return {str(i): (ChosenTerms(scheme, each), each) for i, each in enumerate(weights)}


def spent(quantized):
    return sum(int(each.num_terms.sum()) * weight[0].numel() for each, weight in quantized.values())


@given(shapes=SHAPES, mean_terms=st.floats(0.05, 2), seed=st.integers(0, 99))
def test_budget_is_kept_and_used_up_to_one_filter(shapes, mean_terms, seed):
    quantized = layers(shapes, mean_terms, seed)
    with torch.no_grad():
        for each, _ in quantized.values():
            each.thresholds.normal_(generator=torch.Generator().manual_seed(seed))
    assign_terms(quantized)
    allowed = mean_terms * sum(weight.numel() for _, weight in quantized.values())
    assert spent(quantized) <= allowed + 1e-3
    assert spent(quantized) > allowed - max(weight[0].numel() for _, weight in quantized.values())


@given(shapes=SHAPES, share=st.floats(0, 1.2), seed=st.integers(0, 99))
def test_bytes_are_kept_and_used_up_to_one_filter(shapes, share, seed):
    torch.manual_seed(seed)
    weights = [torch.randn(shape) for shape in shapes]
    filters = [(len(weight), weight[0].numel()) for weight in weights]
    maps = sum(-(-num // 4) for num, _ in filters)
    most = maps + sum(num * size for num, size in filters)
    max_bytes = maps + len(filters) + round(share * (most - maps))
    scheme = FLightNN(max_bytes=max_bytes).within_bytes(filters)
    layers = {str(i): (ChosenTerms(scheme, weight), weight) for i, weight in enumerate(weights)}
    assign_terms(layers)
    nibbles = [
        int(rounding.num_terms.sum()) * weight[0].numel() for rounding, weight in layers.values()
    ]
    taken = maps + sum(-(-each // 2) for each in nibbles)
    assert taken <= max_bytes
    # by less than one filter, and the half bytes at the layers' ends
    largest = max(size for _, size in filters)
    assert taken == most or taken > max_bytes - largest / 2 - len(filters) - 1


def test_bytes_that_hold_no_term_are_refused():
    with pytest.raises(ValueError, match="max_bytes must be >= 3, which the numbers of terms"):
        FLightNN(max_bytes=2).within_bytes([(8, 9)])


@given(seed=st.integers(0, 99))
def test_a_larger_budget_takes_no_term_away(seed):
    quantized = layers([(5, 4), (3, 8)], 2.0, seed)
    before = None
    for mean_terms in (0.5, 1.0, 1.3, 2.0):
        for each, _ in quantized.values():
            each.scheme = FLightNN(mean_terms=mean_terms)
        assign_terms(quantized)
        now = torch.cat([each.num_terms for each, _ in quantized.values()])
        assert before is None or (now >= before).all()
        before = now.clone()
    assert (before == 2).all()


def test_a_filter_without_terms_is_zeros_and_stays():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    x = torch.randn(4, 2, 4, 4)
    dense_macs = count_macs(network, x).total
    rules = QuantizationRules(overrides={"0": {"name": "flightnn", "mean_terms": 0.5}})
    apply_change(network, plan_quantization(network, x, rules=rules))
    calibrate(network, [x])
    deployed = deployed_copy(network, x)
    values = deployed[0].stored_weight.values
    assert values.shape == (16, 2, 3, 3)
    assert int((values == 0).flatten(1).all(1).sum()) >= 8
    assert count_macs(deployed, x).total == dense_macs


def test_layers_of_other_means_have_budgets_of_their_own():
    one, two = layers([(4, 5)], 1.0)["0"], layers([(4, 5)], 2.0)["0"]
    assign_terms({"a": one, "b": two})
    assert one[0].num_terms.tolist() == [1] * 4
    assert two[0].num_terms.tolist() == [2] * 4


def test_wide_margins_come_first():
    # what a power of two represents exactly asks for no second term
    weight = torch.tensor([[4.0, -2.0, 1.0, 64.0], [3.0, 11.0, -5.0, 64.0]])
    rounding = ChosenTerms(FLightNN(mean_terms=1.5), weight)
    assign_terms({"": (rounding, weight)})
    assert rounding.num_terms.tolist() == [1, 2]


def test_small_layers_come_first_and_whatever_the_scale():
    """Of the error of a network, which layers' shares add up to, a term takes most there."""
    torch.manual_seed(0)
    weights = [100 * torch.randn(8, 9), torch.randn(32, 90), 0.01 * torch.randn(8, 9)]
    scheme = FLightNN(mean_terms=1.2)
    quantized = {str(i): (ChosenTerms(scheme, each), each) for i, each in enumerate(weights)}
    assign_terms(quantized)
    means = [float(each.num_terms.float().mean()) for each, _ in quantized.values()]
    assert means[0] == means[2] == 2
    assert 1 <= means[1] < 1.2


def test_a_layer_of_zeros_asks_for_nothing():
    torch.manual_seed(0)
    weights = [torch.zeros(4, 9), torch.randn(8, 9)]
    scheme = FLightNN(mean_terms=4 / 3)
    quantized = {str(i): (ChosenTerms(scheme, each), each) for i, each in enumerate(weights)}
    assign_terms(quantized)
    assert [each.num_terms.tolist() for each, _ in quantized.values()] == [[0] * 4, [2] * 8]


def test_a_lower_threshold_is_granted_first():
    weight = torch.randn(1, 9).repeat(3, 1)
    rounding = ChosenTerms(FLightNN(mean_terms=4 / 3), weight)
    with torch.no_grad():
        rounding.thresholds[1] = torch.tensor([0.3, -0.3, 0.0])
    assign_terms({"": (rounding, weight)})
    assert rounding.num_terms.tolist() == [1, 2, 1]


@pytest.mark.parametrize("num_terms", [0, 1, 2])
def test_rounds_as_the_scheme_with_so_many_terms(num_terms):
    weight = torch.randn(4, 20, requires_grad=True)
    rounding = ChosenTerms(FLightNN(), weight.detach())
    rounding.num_terms.fill_(num_terms)
    rounded = rounding.eval()(weight)
    assert torch.equal(rounded.weight, rounded.values * rounded.scale[:, None])
    assert set(rounded.values.abs().flatten().tolist()) <= set(sums_of_powers(num_terms))
    assert torch.equal(rounding.scale_of(weight), rounded.scale)
    if num_terms:
        scheme = PowerOfTwo(terms=num_terms)
        scale = scheme.fit_scale(weight, scheme.fit_scale(weight))
        expected, _ = scheme.quantize_weight(weight, scale)
        assert torch.equal(rounded.values, expected)
    gradient = torch.randn(4, 20)
    rounded.weight.backward(gradient)
    assert torch.equal(weight.grad, gradient * (num_terms > 0))


class Gate(torch.autograd.Function):
    """Open or closed forward, the slope of a sigmoid backward."""

    @staticmethod
    def forward(ctx, margin, is_open):
        ctx.save_for_backward(margin)
        return is_open.to(margin.dtype)

    @staticmethod
    def backward(ctx, gradient):
        (margin,) = ctx.saved_tensors
        margin = margin / 0.1
        return gradient * (margin.sigmoid() * (-margin).sigmoid() / 0.1), None


def by_gates(rounding, weight, thresholds):
    """The rounded weight as a sum of gated terms, which autograd differentiates; and its levels."""
    shape = (-1, *[1] * (weight.dim() - 1))
    schemes = [PowerOfTwo(terms=1), PowerOfTwo(terms=2)]
    scales = [
        each.fit_scale(weight, old) for each, old in zip(schemes, rounding.scales, strict=True)
    ]
    values = [
        each.quantize_weight(weight, scale)[0] for each, scale in zip(schemes, scales, strict=True)
    ]
    terms = [each * scale.reshape(shape) for each, scale in zip(values, scales, strict=True)]
    asked, rounded = rounding.margins(weight), torch.zeros_like(weight)
    for index, term in enumerate(terms):
        margin = asked[index] - thresholds[index] - rounding.bar
        gate = Gate.apply(margin, rounding.num_terms > index)
        rounded = rounded + gate.reshape(shape) * (term - (terms[index - 1] if index else 0))
    is_alive = (rounding.num_terms > 0).reshape(shape)
    chosen = torch.where((rounding.num_terms > 1).reshape(shape), values[1], values[0]) * is_alive
    scale = torch.where(rounding.num_terms > 1, scales[1], scales[0])
    exact = chosen * scale.reshape(shape)
    with_gates = rounded + (exact - rounded).detach()
    return with_gates + is_alive * (weight - weight.detach()), exact, chosen, scale


@given(
    shape=st.sampled_from([(5, 7), (4, 3, 3, 3), (6, 1, 3, 3), (3, 40)]),
    mean_terms=st.floats(0.1, 2),
    seed=st.integers(0, 99),
)
def test_rounds_and_learns_as_a_sum_of_gates_to_the_last_bit(shape, mean_terms, seed):
    ((rounding, weight),) = layers([shape], mean_terms, seed).values()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        rounding.thresholds.normal_(generator=generator)
    assign_terms({"": (rounding, weight)})
    gradient = torch.randn(shape, generator=generator)
    expected, thresholds = (
        each.detach().clone().requires_grad_() for each in (weight, rounding.thresholds)
    )
    gated, exact, chosen, scale = by_gates(rounding, expected, thresholds)
    gated.backward(gradient)
    weight.requires_grad_()
    found = rounding.train()(weight)
    found.weight.backward(gradient)
    assert torch.equal(found.weight, exact)
    assert torch.equal(found.values, chosen)
    assert torch.equal(found.scale, scale)
    assert torch.equal(weight.grad, expected.grad)
    assert torch.equal(rounding.thresholds.grad, thresholds.grad)


def test_a_threshold_learns_what_its_term_would_do_to_the_loss():
    torch.manual_seed(0)
    weight = torch.randn(3, 20)
    rounding = ChosenTerms(FLightNN(), weight).eval()
    rounding.num_terms.copy_(torch.tensor([1, 1, 2]))
    rounded = rounding(weight)
    gradient = torch.randn(3, 20)
    rounded.weight.backward(gradient)
    scales = [PowerOfTwo(terms=k).fit_scale(weight, rounding.scales[k - 1]) for k in (1, 2)]
    first, second = (
        PowerOfTwo(terms=k).quantize_weight(weight, scale)[0] * scale[:, None]
        for k, scale in zip((1, 2), scales, strict=True)
    )
    margin = rounding.margins(weight)[1] / 0.1
    slope = margin.sigmoid() * (1 - margin.sigmoid()) / 0.1
    expected = -(gradient * (second - first)).sum(1) * slope
    assert torch.allclose(rounding.thresholds.grad[1], expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("value", [0.0, 1e-42, 1e30])
def test_extreme_filters_stay_finite(value):
    weight = torch.stack([torch.full((5,), value), torch.randn(5)]).requires_grad_()
    rounding = ChosenTerms(FLightNN(), weight.detach())
    assign_terms({"": (rounding, weight.detach())})
    rounded = rounding.train()(weight)
    rounded.weight.sum().backward()
    for tensor in (rounded.weight, weight.grad, rounding.thresholds.grad, rounding.scales):
        assert tensor.isfinite().all()
