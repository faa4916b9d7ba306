import copy

import pytest
import torch
from torch import nn

from lightning_cost.cost.macs import count_macs
from lightning_cost.cost.size import size_bytes
from lightning_cost.network.deploy import deployed_copy
from lightning_cost.network.lineage import apply_change, lineage_of
from lightning_cost.quantization.calibrate import calibrate
from lightning_cost.quantization.convert import StoredIntegers, convert
from lightning_cost.quantization.fake_quantizers import activation_fake_quantizers
from lightning_cost.quantization.packing.packed import load_packed, save_packed
from lightning_cost.quantization.plan import plan_quantization
from lightning_cost.quantization.rules import QuantizationRules
from lightning_cost.runtime.onnx_file import write_onnx
from tests.quantization.networks import NETWORKS, SCHEMES, prepared, trained


@pytest.mark.parametrize("learns_scales", [False, True])
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", NETWORKS)
def test_converted_network_computes_what_the_prepared_one_does(name, scheme, learns_scales):
    network, x = prepared(name, scheme=scheme, learns_scales=learns_scales)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(-1, 1)  # filters change their sign by some
                module.weight[0] = 0
    network.train()(x).sum().backward()
    expected = network.eval()(x).detach()
    converted = deployed_copy(network, x)
    assert not activation_fake_quantizers(converted)
    assert torch.equal(converted(x), expected)
    assert torch.equal(network(x), expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_quantised_network_is_close_to_the_float_one(name):
    network, x = trained(name)
    expected = network.eval()(x)
    converted = deployed_copy(prepared(name)[0], x)
    signal, noise = expected.std(), (converted(x) - expected).std()
    assert noise < 0.05 * signal


def test_weights_are_stored_as_int8():
    network, x = prepared("residual")
    converted = deployed_copy(network, x)
    stored = [m for m in converted.modules() if isinstance(m, StoredIntegers)]
    weights = [m for m in stored if m.values.dim() > 1]
    assert len(weights) == 7
    assert all(m.values.dtype is torch.int8 for m in weights)
    assert list(converted.parameters()) == []
    num_filters = 4 + 4 + 4 + 8 + 8 + 8 + 3
    num_weights = 4 * 9 + 4 * 4 * 9 + 4 + 8 * 4 * 9 + 8 * 8 * 9 + 8 * 4 + 3 * 32
    # a scale for each filter, and a bias of 32 bits with its own scale
    assert size_bytes(converted) == num_weights + num_filters * 4 + num_filters * 8


def test_macs_stay_the_same():
    network, x = prepared("residual")
    dense, _ = trained("residual")
    report = count_macs(deployed_copy(network, x), x)
    assert report.total == count_macs(dense, x).total
    assert report.unsupported == ()


def test_converting_again_changes_nothing():
    network, x = prepared("in_place")
    once = deployed_copy(network, x)
    assert torch.equal(deployed_copy(once, x)(x), once(x))


def test_convert_leaves_the_original_trainable():
    network, x = prepared("residual")
    converted = convert(network, lineage_of(network)[0].sources)
    network.train()(x).sum().backward()
    assert network[0].conv1.parametrizations.weight.original.grad is not None
    assert isinstance(converted[0].conv1, nn.Conv2d)
    assert converted[0].conv1.weight.shape == (4, 1, 3, 3)


def test_excluded_batch_norm_is_folded_when_deployed():
    network, x = prepared("in_place", exclude=["0"])
    assert isinstance(network[0][1], nn.BatchNorm2d)
    converted = deployed_copy(network, x)
    assert isinstance(converted[0][1], nn.Identity)
    assert isinstance(converted[0][0].weight, nn.Parameter)


def test_result_of_a_folded_batch_norm_stays_quantised():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 3))
    x = torch.randn(4, 1, 8, 8)
    apply_change(network, plan_quantization(network, x, rules=QuantizationRules(exclude=["0"])))
    network.train()(x)
    expected = network.eval()(x)
    converted = deployed_copy(network, x)
    assert isinstance(converted[1], nn.Identity)
    assert len(converted[1](torch.linspace(-1, 1, 999)).unique()) < 256
    assert (converted(x) - expected).abs().max() <= 0.02 * expected.abs().max()


def test_vanishing_filter_with_a_bias():
    network, x = nn.Sequential(nn.Linear(3, 2)), torch.randn(8, 3)
    with torch.no_grad():
        network[0].weight[0] = 1e-20
    apply_change(network, plan_quantization(network, x))
    network.train()(x)
    converted = deployed_copy(network, x)
    assert torch.allclose(converted(x), network.eval()(x), atol=1e-6)
    assert converted[0].stored_bias.values.abs().max() <= 1.001 * 2**30


def test_uncalibrated_network():
    network, x = trained("functional")
    apply_change(network, plan_quantization(network, x))
    with pytest.raises(
        ValueError, match=r"must be calibrated .* got 'first\.input_fake_quantizer'"
    ):
        deployed_copy(network, x)


def test_range_that_is_not_finite():
    network, x = prepared("functional")
    network.train()(x * float("nan"))
    with pytest.raises(ValueError, match=r"range of activations must be finite, got \[nan, nan\]"):
        deployed_copy(network, x)


@pytest.mark.parametrize("name", ["residual", "several_inputs", "transformer", "transposed"])
def test_parity_on_the_runtimes(name, tmp_path):
    contract = pytest.importorskip("lightning_cost.runtime.contract")
    runtimes = [each for each in contract.DEPLOYABLE if each in contract.installed_runtimes()]
    if not runtimes:
        pytest.skip("no runtime for files is installed")
    network, x = prepared(name)
    converted = deployed_copy(network, x)
    expected = converted(x)
    path = write_onnx(converted, x, tmp_path / "model.onnx")
    for runtime in runtimes:
        with contract.open_file(path, runtime=runtime, num_threads=1) as session:
            found = torch.from_numpy(session.run(x)[0])
        assert (found - expected).abs().max() <= 0.03 * (expected.max() - expected.min())


def test_embedding_stays_integers_but_for_the_rows_looked_up():
    network, x = prepared("transformer")
    prepared_rows = network.embedding(torch.arange(10))
    converted = deployed_copy(network, x)
    table = converted.embedding
    assert type(table).__name__ == "QuantizedEmbedding"
    assert table.stored_weight.values.dtype is torch.int8
    assert table.stored_weight.scale.shape == (10,)
    found = []
    table.stored_weight.register_forward_hook(lambda *call: found.append(call))
    assert torch.equal(table(torch.arange(10)), prepared_rows)
    assert found == []
    assert torch.equal(table.weight, table.stored_weight())


def test_stored_weight_of_a_transposed_convolution_is_filter_by_filter():
    network, x = prepared("transposed")
    network.eval()
    converted = deployed_copy(network, x)
    for layer in ("2", "5", "8", "10", "14"):
        before, after = network.get_submodule(layer), converted.get_submodule(layer)
        stored = after.stored_weight
        assert stored.values.shape[0] == stored.scale.shape[0] == before.out_channels
        assert stored.values.abs().flatten(1).amax(1).eq(127).all()
        assert torch.equal(after.weight, before.weight)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["residual", "functional", "transposed", "transformer"])
def test_networks_of_other_types_are_converted_in_them(name, dtype, tmp_path):
    network, x = trained(name)
    network, x = network.to(dtype).eval(), x.to(dtype)
    fresh = copy.deepcopy(network)
    apply_change(network, plan_quantization(network, x[:1]))
    calibrate(network, [x])
    expected = network(x).detach()
    converted = deployed_copy(network, x)
    assert converted(x).dtype is dtype
    assert torch.equal(converted(x), expected)
    assert torch.equal(load_packed(fresh, save_packed(network, tmp_path / "network"))(x), expected)


def test_only_the_last_layer_may_be_of_another_type():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(8, 6), nn.Linear(6, 3).double()

        def forward(self, x):
            return self.last(self.first(x).relu().double())

    network, x = Mixed().eval(), torch.randn(4, 8)
    apply_change(network, plan_quantization(network, x))
    calibrate(network, [x])
    converted = deployed_copy(network, x)
    assert torch.equal(converted(x), network(x))
    assert converted(x).dtype is torch.float64
