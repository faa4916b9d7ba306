import copy
import io
import json

import onnx
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from lightning_cost import export, measure
from lightning_cost.cost.resource import Resource
from lightning_cost.network.deploy import deployed_copy
from lightning_cost.network.lineage import (
    apply_change,
    lineage_from_list,
    lineage_of,
    lineage_to_list,
    replay,
)
from lightning_cost.quantization.calibrate import calibrate
from lightning_cost.quantization.fake_quantizers import ActivationFakeQuantizer, freeze_observers
from lightning_cost.quantization.norms import freeze_norms
from lightning_cost.quantization.plan import plan_quantization
from lightning_cost.quantization.rules import QuantizationRules
from tests.quantization.networks import NETWORKS, SCHEMES, Functional, PlainConv, prepared, trained


@pytest.mark.parametrize("learns_scales", [False, True])
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", NETWORKS)
def test_replay_on_a_fresh_network_gives_the_same_bits(name, scheme, learns_scales):
    network, x = prepared(name, scheme=scheme, learns_scales=learns_scales)
    network.train()(x)
    freeze_observers(network)
    file = io.BytesIO()
    lineage = json.loads(json.dumps(lineage_to_list(lineage_of(network))))
    torch.save({"state": network.state_dict(), "lineage": lineage}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    fresh, _ = trained(name, seed=1)
    replay(fresh, lineage_from_list(saved["lineage"]))
    fresh.load_state_dict(saved["state"])
    for mode in (True, False):
        assert torch.equal(network.train(mode)(x), fresh.train(mode)(x))
    assert [n for n, _ in network.named_parameters()] == [n for n, _ in fresh.named_parameters()]


@pytest.mark.parametrize("name", NETWORKS)
def test_copy_computes_the_same_and_is_independent(name):
    network, x = prepared(name)
    expected = network.eval()(x)
    replica = copy.deepcopy(network)
    assert torch.equal(replica(x), expected)
    with torch.no_grad():
        for parameter in replica.parameters():
            parameter.zero_()
    replica.train()(3 * x)
    assert torch.equal(network(x), expected)


def test_modules_stay_what_they_are():
    network, _ = prepared("residual")
    assert isinstance(network[0].conv2, PlainConv)
    assert not network.train().eval().training
    assert isinstance(network[0].bn2, nn.BatchNorm2d)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_swaps_name_what_is_new_and_keep_the_rest(scheme):
    network, x = trained("residual")
    before = dict(network.named_parameters())
    swaps = plan_quantization(network, x, scheme).apply(network)
    after = set(network.parameters())
    added = {swap.new for swap in swaps}
    assert all(swap.old is None for swap in swaps)
    assert after == set(before.values()) | added
    assert bool(added) == (scheme == "flightnn")
    assert network[0].conv1.parametrizations.weight.original is before["0.conv1.weight"]


@pytest.mark.parametrize("learns_scales", [False, True])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_parameter_trains(scheme, learns_scales):
    network, x = prepared("residual", scheme=scheme, learns_scales=learns_scales)
    for is_frozen in (False, True):
        if is_frozen:
            freeze_observers(network)
            freeze_norms(network)
        network.zero_grad()
        network.train()(x).square().sum().backward()
        for name, parameter in network.named_parameters():
            # a filter of one weight meets a level whatever its scale
            is_met = name == "0.shortcut.parametrizations.weight.0.rounding.scale"
            assert is_met or parameter.grad.any(), (name, is_frozen)


def test_branch_and_convolution_read_the_same_quantised_tensor():
    network, x = trained("residual")
    change = plan_quantization(network, x)
    assert change.sources == {
        "0.conv1": "0.conv1",  # what the network is given, written by no module
        "0.conv2": "0.relu1",
        "0.shortcut": "0.shortcut",
        "1.conv1": "0.relu2",
        "1.conv2": "1.relu1",
        "1.shortcut": "0.relu2",
        "4": "3",
    }
    # both addends, so that runtimes compute the convolutions before them in integers
    assert change.outputs == ("0.bn2", "0.shortcut", "1.bn2", "1.shortcut")
    assert change.left_float == {}
    assert change.weights == tuple(change.sources)


def test_tensors_changed_in_place():
    network, x = trained("in_place")
    change = plan_quantization(network, x)
    assert change.sources == {
        "0.0": "0.0",
        "2.conv1": "1",
        "2.conv2": "2.conv2",  # after a ReLU that is called twice
        "3.conv1": "2",  # the block; its last module wrote an earlier value
        "3.conv2": "3.conv2",
        "5": "4",
    }
    assert change.outputs == ("0.2", "2.bn2", "3.bn2")


class Residual(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


class Stages(nn.ModuleList):
    def forward(self, x):
        for stage in self:
            x = x + stage(x)
        return x


class Named(nn.ModuleDict):
    def forward(self, x):
        return torch.cat([stage(x) for stage in self.values()], 1)


@pytest.mark.parametrize(
    "container",
    [
        Residual(nn.Conv2d(4, 4, 1), nn.GELU()),
        Stages([nn.Conv2d(4, 4, 1), nn.GELU()]),
        Named({"a": nn.Conv2d(4, 2, 1), "b": nn.Conv2d(4, 2, 1)}),
    ],
)
def test_containers_of_their_own_forward_keep_their_children(container):
    network = nn.Sequential(nn.Conv2d(2, 4, 1), nn.ReLU(), container, nn.Conv2d(4, 3, 1)).eval()
    x, children = torch.randn(8, 2, 5, 5), list(container.children())
    expected = network(x)
    change = plan_quantization(network, x)
    assert change.sources["3"] == "3"
    apply_change(network, change)
    calibrate(network, [x])
    assert list(container.children()) == children
    assert (network.eval()(x) - expected).abs().max() < 0.05 * expected.abs().max()


def test_functions_and_repeated_calls():
    network, x = trained("functional")
    change = plan_quantization(network, x)
    assert change.sources == {"first": "first", "repeated": "repeated", "last": "last"}
    assert change.outputs == ()


def test_keyword_arguments():
    class Keyword(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 2)

        def forward(self, x):
            return self.linear(input=x)

    network, x = Keyword(), torch.randn(4, 3)
    apply_change(network, plan_quantization(network, {"x": x}))
    network.train()(x)
    assert network.linear.input_fake_quantizer.num_observed == 1


def test_first_of_several_inputs():
    network, x = trained("several_inputs")
    change = plan_quantization(network, x)
    assert change.sources == {"first": "first", "gated": "gated", "last": "last"}
    assert change.left_float == {}
    apply_change(network, change)
    gates = []
    network.gated.register_forward_pre_hook(
        lambda module, args, kwargs: gates.append(kwargs["gate"]), with_kwargs=True
    )
    network.train()(x)
    quantizer = network.gated.input_fake_quantizer
    assert quantizer.num_observed == 1
    assert not torch.equal(quantizer.eval()(gates[0]), gates[0])


def test_transformer():
    network, x = trained("transformer")
    change = plan_quantization(network, x)
    assert change.tables == ("embedding",)
    assert change.attentions == {"encoder.self_attn": True, "cross": False, "same": False}
    assert set(change.sources) == {
        "encoder.self_attn.in_proj.0",
        "encoder.self_attn.out_proj",
        "encoder.linear1",
        "encoder.linear2",
        *(f"{name}.{layer}" for name in ("cross", "same") for layer in ("out_proj",)),
        *(f"{name}.in_proj.{index}" for name in ("cross", "same") for index in range(3)),
        "query",
        "value",
        "last",
    }
    assert change.left_float == {}
    assert change.sources["encoder.self_attn.in_proj.0"] == "embedding"
    assert change.weights == (*change.sources, "embedding")


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_encoder_of_padded_batches():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
            self.encoder, self.last = nn.TransformerEncoder(layer, 1), nn.Linear(8, 3)

        def forward(self, x, padding):
            mixed = self.encoder(x, src_key_padding_mask=padding)
            return self.last(mixed.masked_fill(padding[..., None], 0).sum(1))

    torch.manual_seed(0)
    network, x = Masked().eval(), torch.randn(4, 5, 8)
    padding = torch.arange(5) >= torch.tensor([[5], [3], [4], [1]])
    with torch.no_grad():
        expected = network(x, padding)
        apply_change(network, plan_quantization(network, (x, padding)))
        calibrate(network, [(x, padding)])
        found = network.eval()(x, padding)
        assert (found - expected).abs().max() < 0.1 * expected.abs().max()
        assert torch.equal(deployed_copy(network, (x, padding))(x, padding), found)


def test_attention_that_stays_closed():
    network, x = trained("transformer")
    network.cross.register_forward_hook(lambda *call: None)
    change = plan_quantization(network, x, rules=QuantizationRules(exclude=["encoder"]))
    assert change.attentions == {"same": False}
    assert change.left_float["cross"] == "hooks hang on it"
    assert change.left_float["cross.out_proj"] == "it is not called in a forward pass"
    assert change.left_float["encoder.self_attn"] == "excluded"


def test_one_projection_excluded():
    network, x = trained("transformer")
    change = plan_quantization(network, x, rules=QuantizationRules(exclude=["cross.out_proj"]))
    assert "cross.out_proj" not in change.sources
    assert "cross.in_proj.0" in change.sources


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (nn.Embedding(5, 2, max_norm=1.0), "it changes its weight in every forward pass"),
        (nn.Embedding(5, 2, sparse=True), "its gradients are sparse"),
    ],
)
def test_embeddings_left_in_floating_point(table, reason):
    network = nn.Sequential(table, nn.Linear(2, 2))
    change = plan_quantization(network, torch.tensor([[1, 2]]))
    assert change.tables == ()
    assert change.left_float["0"].startswith(reason)


def test_layer_whose_first_input_is_whole_numbers():
    class Chosen(nn.Linear):
        def forward(self, index, x):
            return super().forward(x)[index]

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.chosen = nn.Linear(2, 2), Chosen(2, 2)

        def forward(self, x):
            return self.chosen(torch.tensor([0]), self.first(x))

    change = plan_quantization(Network(), torch.randn(3, 2))
    assert change.left_float == {"chosen": "its first input is not in floating point"}


def test_a_table_whose_rows_are_computed_is_left_in_floating_point():
    class Unit(nn.Embedding):
        def forward(self, x):
            return nn.functional.embedding(x, nn.functional.normalize(self.weight))

    network = nn.Sequential(Unit(5, 4), nn.Linear(4, 4))
    change = plan_quantization(network, torch.tensor([0, 3]))
    assert change.left_float == {"0": "its forward does not compute from its weight as it is"}


class Standardised(nn.Conv2d):
    """Its forward centres the weight."""

    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(x, weight, self.bias)


class Shifted(nn.Conv2d):
    """Its forward does something to the input, and nothing to the weight."""

    def forward(self, x):
        return super().forward(x.roll(1, -1)) * (1 + self.weight.square().mean())


@pytest.mark.parametrize(("kind", "num_float"), [(Shifted, 0), (Standardised, 1)])
def test_layer_that_computes_on_its_weight_is_left_in_floating_point(tmp_path, kind, num_float):
    torch.manual_seed(0)
    network = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), kind(8, 8, 3, padding=1), nn.ReLU()),
        nn.Conv2d(8, 8, 3),
    )
    x = torch.randn(2, 3, 8, 8)
    change = plan_quantization(network, x)
    reason = "its forward does not compute from its weight as it is"
    assert change.left_float == dict.fromkeys(["2"][:num_float], reason)
    apply_change(network, change)
    calibrate(network, [x])
    graph = onnx.load(export(network, tmp_path / "network.onnx", x)).graph
    dequantized = {
        name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output
    }
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    in_float = [node for node in convolutions if node.input[1] not in dequantized]
    assert (len(convolutions), len(in_float)) == (3, num_float)
    in_integers = sum(8 * 9 * channels for channels in (3, 8, 8)) + 3 * (3 * 4 * 8)
    # four bytes a weight in place of one, and no scales of weight and bias
    more = 3 * 8 * 8 * 9 - 2 * 4 * 8
    size_bytes = measure(network, x)[Resource.size_bytes].value
    assert size_bytes == in_integers + num_float * more


def test_exclude_takes_everything_within():
    network, x = trained("in_place")
    change = plan_quantization(network, x, rules=QuantizationRules(exclude=["0", "3.conv2"]))
    assert set(change.sources) == {"2.conv1", "2.conv2", "3.conv1", "5"}
    assert ("0.0", "0.1") not in change.folded
    assert change.left_float == {"0.0": "excluded", "3.conv2": "excluded"}


def test_what_is_left_in_floating_point_has_a_reason():
    shared = nn.Linear(2, 2)
    network = nn.ModuleDict(
        {
            "a": shared,
            "b": nn.Linear(2, 2),
            "unused": nn.Linear(2, 2),
            "lstm": nn.LSTM(2, 2),
            "normalised": parametrizations.weight_norm(nn.Linear(2, 2)),
            "good": nn.Linear(2, 2),
        }
    )
    network["b"].weight = shared.weight

    def forward(x):
        x = network["normalised"](network["b"](network["a"](x)))
        return network["good"](network["lstm"](x)[0])

    network.forward = forward
    change = plan_quantization(network, torch.randn(3, 2))
    assert set(change.sources) == {"good"}
    assert change.left_float == {
        "a": "it shares its weight or bias with another module",
        "b": "it shares its weight or bias with another module",
        "unused": "it is not called in a forward pass",
        "lstm": "LSTM has no quantised form",
        "normalised": "its weight is computed from others",
        "normalised.parametrizations.weight": "ParametrizationList has no quantised form",
    }


def test_planning_leaves_the_network_as_it_was():
    network, x = trained("residual")
    before = copy.deepcopy(network.state_dict())
    plan_quantization(network, x)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert network.training
    assert not any(isinstance(m, ActivationFakeQuantizer) for m in network.modules())


def test_unknown_exclude():
    network, x = trained("functional")
    rules = QuantizationRules(exclude=["frist"])
    with pytest.raises(ValueError, match=r"exclude must name modules .* got 'frist'; .* 'first'"):
        plan_quantization(network, x, rules=rules)


def test_nothing_to_quantise():
    with pytest.raises(ValueError, match=r"network must have .* got none \(no weights\)"):
        plan_quantization(nn.ReLU(), torch.randn(1, 2))
    network, rules = nn.Sequential(nn.Linear(2, 2)), QuantizationRules(exclude=["0"])
    with pytest.raises(ValueError, match=r"got none \(0: excluded\); exclude less"):
        plan_quantization(network, torch.randn(1, 2), rules=rules)


def test_prepared_twice():
    network, x = prepared("functional")
    with pytest.raises(ValueError, match="network must not be prepared for quantisation twice"):
        plan_quantization(network, x)
    with pytest.raises(ValueError, match="network must not be prepared for quantisation twice"):
        lineage_of(network)[0].apply(network)


def test_another_architecture_is_refused_unchanged():
    change = lineage_of(prepared("residual")[0])[0]
    network = Functional()
    with pytest.raises(ValueError, match=r"planned for, got nothing of that name at '0\.conv1'"):
        change.apply(network)
    assert not any(isinstance(m, ActivationFakeQuantizer) for m in network.modules())
    with pytest.raises(ValueError, match="got Identity at '4'; plan it for this"):
        change.apply(nn.Sequential(*trained("residual")[0][:4], nn.Identity()))
