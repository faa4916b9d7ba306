"""A small family of networks whose ONNX graph at any widths is written by hand.

A 3x3 convolution, a depthwise one with stride 2, two branches that are added, and a linear layer
behind a reshape: what the template, the layers and the profiler have to deal with, without an
export that takes seconds.
"""

import numpy as np
import onnx
from onnx import helper, numpy_helper

from lightning_cost.runtime.onnx_layers import GraphLayers
from lightning_cost.runtime.onnx_template import OnnxTemplate

SIDE = 8
CLASSES = 5
TOTALS = (12, 20)
TOLD = (TOTALS, (7, 13), (9, 16))


class HandFamily:
    """A ``WidthFamily`` of two groups."""

    def __init__(self, *, name="hand", totals=TOTALS, batch_size=1, side=SIDE):
        self.name = name
        self.totals = np.array(totals)
        told = (totals, *TOLD[1:])
        self.template = OnnxTemplate(
            [hand_model(*widths, side=side) for widths in told], np.array(told, dtype=float)
        )
        shape = (batch_size, 1, side, side)
        self.inputs = {"images": np.random.default_rng(0).random(shape, dtype=np.float32)}
        self.graph = GraphLayers(self.template, {"images": shape})

    def sizes_at(self, widths):
        return np.asarray(widths, dtype=float)

    def channels_at(self, widths):
        return self.graph.channels_at(self.sizes_at(widths))


def hand_model(first, second, *, side=SIDE):
    """The graph where the groups have ``first`` and ``second`` channels."""
    features = second * (side // 2) ** 2
    return model(
        [
            conv("conv", "images", "stem.weight", pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["conv"], ["relu"], "node_relu"),
            conv("conv_1", "relu", "filter.weight", pads=[1, 1, 1, 1], strides=[2, 2], group=first),
            helper.make_node("Relu", ["conv_1"], ["relu_1"], "node_relu_1"),
            conv("conv_2", "relu_1", "wide.weight", pads=[1, 1, 1, 1]),
            conv("conv_3", "relu_1", "point.weight"),
            helper.make_node("Add", ["conv_2", "conv_3"], ["add"], "node_add"),
            helper.make_node("Relu", ["add"], ["relu_2"], "node_relu_2"),
            helper.make_node("Reshape", ["relu_2", "shape"], ["view"], "node_view"),
            helper.make_node(
                "Gemm",
                ["view", "classifier.weight", "classifier.bias"],
                ["logits"],
                "node_gemm",
                transB=1,
            ),
        ],
        {
            "stem.weight": (first, 1, 3, 3),
            "filter.weight": (first, 1, 3, 3),
            "wide.weight": (second, first, 3, 3),
            "point.weight": (second, first, 1, 1),
            "shape": np.array([-1, features]),
            "classifier.weight": (CLASSES, features),
            "classifier.bias": (CLASSES,),
        },
        side=side,
        rank=2,
    )


def conv(output, data, weight, **attributes):
    return helper.make_node("Conv", [data, weight], [output], f"node_{output}", **attributes)


def model(nodes, tensors, *, side=SIDE, channels=1, output="logits", rank=4):
    """A model of ``nodes`` from ``images`` to ``output``; random values where a shape is given."""
    generator = np.random.default_rng(len(tensors))
    initializers = [
        numpy_helper.from_array(
            value
            if isinstance(value, np.ndarray)
            else (generator.normal(size=value) / 8).astype(np.float32),
            name,
        )
        for name, value in tensors.items()
    ]
    images = helper.make_tensor_value_info(
        "images", onnx.TensorProto.FLOAT, ["batch", channels, side, side]
    )
    found = helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, [None] * rank)
    graph = helper.make_graph(nodes, "hand", [images], [found], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
