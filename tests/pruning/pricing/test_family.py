"""Families against real exports: what is cut from the template is what the exporter writes."""

from functools import cache

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from lightning_cost.hardware.tables.width_family import model_of, reference_widths
from lightning_cost.pruning.pricing.axis_sizes import AxisSizes
from lightning_cost.pruning.pricing.family import PrunedFamily
from lightning_cost.pruning.structure.groups import channel_groups
from lightning_cost.quantization.callback import QuantizationAwareTraining
from lightning_cost.runtime.standalone import RUNTIMES, TimedModel
from lightning_cost.zoo.mobilenet import mobilenet_v2_small
from lightning_cost.zoo.resnet import resnet8
from tests.reference.random_networks import conv


class Branches(nn.Module):
    """Everything at once: a sum, a depthwise convolution, a concatenation, flatten and linear."""

    def __init__(self):
        super().__init__()
        self.stem, self.body, self.skip = conv(1, 8), conv(8, 8), conv(8, 8, kernel=1)
        self.filter = conv(8, 8, groups=8)
        self.left, self.right = conv(8, 6, kernel=1), conv(8, 10)
        self.pool = nn.MaxPool2d(2)
        self.classifier = nn.Linear(16 * 4, 5)

    def forward(self, images):
        x = self.stem(images).relu()
        x = self.pool((self.body(x) + self.skip(x)).relu())
        x = nn.functional.relu6(self.filter(x))
        x = self.pool(torch.cat([self.left(x), self.right(x).relu()], dim=1))
        return self.classifier(x.flatten(1))


NETWORKS = {
    "branches": Branches,
    "resnet8": lambda: resnet8(width=8, in_channels=1),
    "mobilenet_v2": lambda: mobilenet_v2_small(width=8, in_channels=1),
}


@cache
def family_of(name, scheme):
    torch.manual_seed(0)
    network, example = NETWORKS[name](), torch.randn(1, 1, 8, 8)

    def quantized(built):
        return QuantizationAwareTraining(scheme).preview(built, example)

    preview = quantized if scheme == "int8" else None
    groups = channel_groups(network, example)
    return PrunedFamily(network, example, groups, name=name, preview=preview)


# exports take seconds: those of the zoo's networks are left to `make slow`
every_family = pytest.mark.parametrize(
    "family",
    [
        pytest.param(
            (name, scheme),
            id=f"{name}-{scheme}",
            marks=[] if name == "branches" else [pytest.mark.slow],
        )
        for name in NETWORKS
        for scheme in ("float32", "int8")
    ],
)


def random_widths(family, num_rows, seed=3):
    generator = np.random.default_rng(seed)
    return np.stack([generator.integers(1, family.totals, endpoint=True) for _ in range(num_rows)])


def shape_of_graph(found):
    """Nodes with their attributes, and the tensors each reads by type, shape and, if whole, value.

    Tensors are told by their place, as equal ones may be shared under one name.
    """
    tensors = {tensor.name: tensor for tensor in found.graph.initializer}
    nodes = []
    for node in found.graph.node:
        attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
        read = []
        for name in node.input:
            tensor = tensors.get(name)
            if tensor is None:
                read.append(name)
                continue
            is_whole = tensor.data_type == onnx.TensorProto.INT64
            values = onnx.numpy_helper.to_array(tensor).tolist() if is_whole else None
            read.append((tensor.data_type, tuple(tensor.dims), values))
        nodes.append((node.op_type, attributes, tuple(read), tuple(node.output)))
    return nodes


@every_family
def test_a_model_at_random_widths_is_what_the_exporter_writes(family):
    found = family_of(*family)
    for widths in random_widths(found, 1):
        cut, exported = (
            onnx.load_from_string(content)
            for content in (model_of(found, widths), found.exported(widths))
        )
        assert shape_of_graph(cut) == shape_of_graph(exported)


@every_family
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_models_run_at_any_widths_and_batch(family, runtime):
    found = family_of(*family)
    for widths in (np.ones_like(found.totals), *random_widths(found, 2, seed=4)):
        for batch_size in (1, 3):
            inputs = {name: np.repeat(x, batch_size, 0) for name, x in found.inputs.items()}
            model = TimedModel(model_of(found, widths), inputs, runtime=runtime)
            assert model.run()[0].shape[0] == batch_size


@every_family
def test_channels_are_those_of_the_built_network(family):
    found = family_of(*family)
    for widths in random_widths(found, 3, seed=5):
        outs, ins = found.channels_at(widths[None])
        modules = dict(found.built(widths).named_modules())
        for layer, out, into in zip(found.graph.layers, outs[0], ins[0], strict=True):
            module = modules[layer.name]
            if hasattr(module, "out_channels"):
                expected = (module.out_channels, module.in_channels)
            else:
                expected = (module.out_features, module.in_features)
            assert (out, into) == expected


@every_family
def test_each_layer_of_each_runtime_gets_its_time(family):
    found = family_of(*family)
    content = model_of(found, found.totals)
    model = TimedModel(content, dict(found.inputs), runtime="onnxruntime", is_profiled=True)
    model.time_ms(0.01)
    operators = model.operators()
    times, _ = found.graph.owners.divide(operators)
    assert times.sum() == pytest.approx(sum(taken for *_, taken in operators))
    assert (times > 0).all()


def test_the_layers_of_branches_in_order():
    layers = family_of("branches", "float32").graph.layers
    names = [layer.name.rpartition(".")[0] or layer.name for layer in layers]
    assert names == ["stem", "body", "skip", "filter", "left", "right", "classifier"]
    assert [layer.is_depthwise for layer in layers] == [False] * 3 + [True] + [False] * 3
    int8 = family_of("branches", "int8").graph.layers
    assert all(" int8 " in layer.signature for layer in int8)
    assert [4 * layer.bytes_per_weight for layer in int8] == [
        layer.bytes_per_weight for layer in layers
    ]


def test_the_network_is_left_as_it_was():
    network, example = (
        nn.Sequential(conv(1, 4), nn.Flatten(), nn.Linear(144, 2)),
        torch.zeros(1, 1, 6, 6),
    )
    before = {name: value.clone() for name, value in network.state_dict().items()}
    family = PrunedFamily(network, example, channel_groups(network, example), name="x")
    assert network.training
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    assert reference_widths(family).tolist() == [2]
    assert family.inputs["input"].shape == (1, 1, 6, 6)


def test_a_forward_that_depends_on_the_widths_is_refused():
    class Pooled(nn.Module):
        """Pools as far as it has channels."""

        def __init__(self):
            super().__init__()
            self.stem, self.body, self.head = conv(1, 8), conv(8, 8), nn.Linear(8, 4)

        def forward(self, images):
            x = self.body(self.stem(images).relu())
            size = 2 if self.body[0].out_channels > 7 else 3
            return self.head(nn.functional.max_pool2d(x, size).mean((2, 3)))

    network, example = Pooled(), torch.zeros(1, 1, 6, 6)
    family = PrunedFamily(network, example, channel_groups(network, example), name="x")
    with pytest.raises(ValueError, match=r"got strides of node_max_pool2d that differs; forward"):
        _ = family.template


def test_sizes_that_grow_alike_by_chance_are_told_apart():
    """Ten groups of four channels: among three random widths some would be alike."""
    network = nn.Sequential(*(conv(1 if place == 0 else 4, 4) for place in range(11)))
    example = torch.zeros(1, 1, 6, 6)
    grouping = channel_groups(network, example)
    family = PrunedFamily.__new__(PrunedFamily)
    family._axes = AxisSizes.from_grouping(grouping)
    family.totals = family._axes.totals
    told = family._told_widths()
    columns = {tuple(column) for column in told.T.tolist()}
    assert len(columns) == len(family.totals)
    assert (told[0] == family.totals).all()


def test_biases_of_a_fresh_network_are_exported():
    """The exporter drops a bias that is zero, as those of folded fresh batch norms are."""
    nodes = family_of("resnet8", "float32").template.graph.node
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    assert convolutions
    assert all(len(node.input) == 3 for node in convolutions)
