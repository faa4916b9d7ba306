"""Layers, channels and owners of graphs small enough to say them by hand."""

import numpy as np
import pytest
from onnx import helper

from lightning_cost.runtime.onnx_layers import GraphLayers
from lightning_cost.runtime.onnx_template import OnnxTemplate
from tests.reference.width_family import HandFamily, conv, model


def layers_of(nodes, tensors, *, shape=(1, 4, 8, 8), other=None, rank=4):
    """Layers of a graph whose tensors have 8 where those of ``other`` have 6."""
    models = [
        model(nodes, each, channels=shape[1], output=nodes[-1].output[0], rank=rank)
        for each in (tensors, other or tensors)
    ]
    return GraphLayers(OnnxTemplate(models, np.array([[8.0], [6.0]])), {"images": shape})


def only(nodes, tensors, **options):
    (layer,) = layers_of(nodes, tensors, **options).layers
    return layer


def test_the_layers_of_a_graph_in_order():
    found = HandFamily().graph.layers
    assert [layer.name for layer in found] == ["stem", "filter", "wide", "point", "classifier"]
    assert [layer.signature for layer in found] == [
        "Conv 3x3 pads1x1x1x1 on 8x8 float batch1 of the input then Relu",
        "Conv 3x3 depthwise strides2x2 pads1x1x1x1 on 8x8 float batch1 then Relu",
        "Conv 3x3 pads1x1x1x1 on 4x4 float batch1",
        "Conv 1x1 on 4x4 float batch1 then Add+Relu",
        "Gemm float batch1",
    ]
    assert [layer.is_depthwise for layer in found] == [False, True, False, False, False]
    assert [layer.bytes_per_weight for layer in found] == [36.0, 36.0, 36.0, 4.0, 4.0]


def test_the_batch_is_part_of_a_signature():
    alone, three = HandFamily().graph.layers, HandFamily(batch_size=3).graph.layers
    assert [layer.signature.replace("batch1", "batch3") for layer in alone] == [
        layer.signature for layer in three
    ]


def test_channels_at_any_widths():
    outs, ins = HandFamily().channels_at(np.array([[12, 20], [3, 7]]))
    assert outs.tolist() == [[12, 12, 20, 20, 5], [3, 3, 7, 7, 5]]
    assert ins.tolist() == [[1, 12, 12, 12, 320], [1, 3, 3, 3, 112]]


def test_who_owns_the_nodes():
    places = HandFamily().graph.owners.places
    assert {name: places[f"node_{name}"] for name in ("conv", "conv_1", "conv_2", "conv_3")} == {
        "conv": 0,
        "conv_1": 1,
        "conv_2": 2,
        "conv_3": 3,
    }
    # what joins two branches belongs to the later one; a reshape to what it reads
    assert (places["node_relu_1"], places["node_add"], places["node_relu_2"]) == (1, 3, 3)
    assert (places["node_view"], places["view"], places["node_gemm"]) == (3, 3, 4)


def test_a_grouped_convolution():
    def tensors(width):
        return {"block.conv.weight": (width, 2, 3, 3)}

    graph = layers_of(
        [conv("x", "images", "block.conv.weight", group=2)], tensors(8), other=tensors(6)
    )
    (layer,) = graph.layers
    assert layer.name == "block.conv"
    assert layer.signature == "Conv 3x3 groups2 on 8x8 float batch1 of the input"
    assert layer.bytes_per_weight == 4 * 9 / 2  # outs x ins x this is the weight's size
    outs, ins = graph.channels_at(np.array([[10.0]]))
    assert (outs.tolist(), ins.tolist()) == ([[10.0]], [[4.0]])


def test_a_transposed_convolution_has_its_outputs_second():
    node = helper.make_node("ConvTranspose", ["images", "up.weight"], ["x"], "node_up")
    graph = layers_of([node], {"up.weight": (4, 8, 2, 2)}, other={"up.weight": (4, 6, 2, 2)})
    outs, ins = graph.channels_at(np.array([[5.0]]))
    assert (outs.tolist(), ins.tolist()) == ([[5.0]], [[4.0]])
    assert graph.layers[0].signature == "ConvTranspose 2x2 on 8x8 float batch1 of the input"


def test_a_matrix_product_over_positions():
    node = helper.make_node("MatMul", ["images", "linear.weight"], ["x"], "node_linear")
    graph = layers_of([node], {"linear.weight": (8, 8)}, other={"linear.weight": (8, 6)})
    assert graph.layers[0].signature == "MatMul on 4x8 float batch1 of the input"
    outs, ins = graph.channels_at(np.array([[3.0]]))
    assert (outs.tolist(), ins.tolist()) == ([[3.0]], [[8.0]])


def quantized_graph():
    """Quantise the input; multiply by weights kept in int8, whose scale is a tensor too."""
    nodes = [
        helper.make_node("QuantizeLinear", ["images", "scale", "zero"], ["q"], "node_q"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"], "node_d"),
        conv("x", "d", "first.weight"),
        helper.make_node("DequantizeLinear", ["weight.values", "scale"], ["w"], "node_w"),
        conv("y", "x", "w"),
    ]
    tensors = {
        "scale": np.float32(0.1),
        "zero": np.int8(0),
        "first.weight": (8, 4, 1, 1),
        "weight.values": np.ones((8, 8, 3, 3), np.int8),
    }
    tensors = {
        name: np.asarray(value) if isinstance(value, np.generic) else value
        for name, value in tensors.items()
    }
    return layers_of(nodes, tensors)


def test_weights_that_are_dequantised():
    first, second = quantized_graph().layers
    assert first.signature == "Conv 1x1 on 8x8 float batch1 of the input"
    assert second.signature == "Conv 3x3 on 8x8 int8 batch1"
    assert (second.name, second.bytes_per_weight) == ("weight", 9.0)


def test_what_works_on_weights_alone_belongs_to_the_layer_that_reads_them():
    owners = quantized_graph().owners
    assert owners.places["node_w"] == owners.places["w"] == 1
    times, _ = owners.divide([["node_x", [], 1.0], ["node_w", [], 2.0], ["node_y", [], 4.0]])
    assert times.tolist() == [1.0, 6.0]


def test_a_graph_without_weights_is_refused():
    relu = helper.make_node("Relu", ["images"], ["x"], "node_relu")
    with pytest.raises(
        ValueError, match=r"network must multiply by weights somewhere, got a graph"
    ):
        layers_of([relu], {})


def test_a_product_of_activations_is_no_layer():
    product = helper.make_node("MatMul", ["x", "x"], ["y"], "node_product")
    layer = only(
        [conv("x", "images", "weight", pads=[1, 1, 1, 1]), product], {"weight": (8, 4, 3, 3)}
    )
    assert layer.signature.endswith("of the input then MatMul")
