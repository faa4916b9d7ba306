"""The graph at any widths: against the same graph written by hand at those widths."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from lightning_cost.runtime.onnx_template import OnnxTemplate, Size
from lightning_cost.runtime.standalone import RUNTIMES, TimedModel
from tests.reference.width_family import TOLD, HandFamily, conv, hand_model, model

FAMILY = HandFamily()


def structure(found):
    """All of a model but the values of its weights."""
    nodes = [
        (
            node.op_type,
            list(node.input),
            list(node.output),
            {entry.name: helper.get_attribute_value(entry) for entry in node.attribute},
        )
        for node in found.graph.node
    ]
    tensors = {
        tensor.name: (
            list(tensor.dims),
            tensor.data_type,
            numpy_helper.to_array(tensor).tolist()
            if tensor.data_type == onnx.TensorProto.INT64
            else None,
        )
        for tensor in found.graph.initializer
    }
    return nodes, tensors


@given(first=st.integers(1, 40), second=st.integers(1, 40))
@settings(max_examples=25)
def test_the_graph_at_any_widths_is_that_written_by_hand(first, second):
    found = FAMILY.template.at(np.array([first, second], dtype=float))
    onnx.checker.check_model(found, full_check=True)
    assert structure(found) == structure(hand_model(first, second))


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_graph_runs_at_any_widths(runtime, batch_size):
    inputs = HandFamily(batch_size=batch_size).inputs
    for widths in ([12, 20], [1, 1], [5, 31]):
        content = FAMILY.template.at(np.array(widths, dtype=float)).SerializeToString()
        found = TimedModel(content, inputs, runtime=runtime).run()
        logits = found[0]
        assert logits.shape == (batch_size, 5)
        assert np.isfinite(logits).all()


def test_the_first_widths_give_the_first_model():
    found = FAMILY.template.at(np.array(TOLD[0], dtype=float))
    first = hand_model(*TOLD[0])
    for tensor, same in zip(found.graph.initializer, first.graph.initializer, strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(tensor), numpy_helper.to_array(same))


def test_a_model_that_is_cut_leaves_the_template_as_it_was():
    before = FAMILY.template.model.SerializeToString()
    FAMILY.template.at(np.array([3.0, 4.0]))
    assert FAMILY.template.model.SerializeToString() == before


def test_shapes_follow_from_sizes():
    weight = FAMILY.template.shape_of("classifier.weight")
    assert weight == (Size(constant=5), Size(column=1, factor=16.0))
    assert weight[1].at(np.array([[3.0, 4.0], [8.0, 9.0]])).tolist() == [64.0, 144.0]
    assert weight[0].at(np.array([[3.0, 4.0], [8.0, 9.0]])).tolist() == [5.0, 5.0]


def pair(width, *, is_shared):
    """Two convolutions whose biases are one tensor, as the exporter writes equal values."""
    tensors = {"a.weight": (width, 1, 1, 1), "b.weight": (width, width, 1, 1), "bias": (width,)}
    if not is_shared:
        tensors["other"] = (width,)
    return model(
        [
            helper.make_node("Conv", ["images", "a.weight", "bias"], ["x"], "node_a"),
            helper.make_node(
                "Conv", ["x", "b.weight", "bias" if is_shared else "other"], ["logits"], "node_b"
            ),
        ],
        tensors,
    )


def test_tensors_that_are_shared_at_some_widths_only():
    template = OnnxTemplate(
        [pair(8, is_shared=True), pair(6, is_shared=False)], np.array([[8.0], [6.0]])
    )
    found = template.at(np.array([4.0]))
    onnx.checker.check_model(found, full_check=True)
    names = [name for node in found.graph.node for name in node.input[1:]]
    assert len(set(names)) == 4
    assert {tuple(t.dims) for t in found.graph.initializer} == {(4, 1, 1, 1), (4, 4, 1, 1), (4,)}


def single(width, *, between=(), tensors=None, **attributes):
    nodes = [conv("x", "images", "weight", **attributes), *between]
    return model(nodes, {"weight": (width, 1, 3, 3)} | (tensors or {}), output=nodes[-1].output[0])


def refused(first, second, match):
    with pytest.raises(ValueError, match=match):
        OnnxTemplate([first, second], np.array([[8.0], [6.0]]))


def test_operators_that_depend_on_the_widths_are_refused():
    relu = helper.make_node("Relu", ["x"], ["y"], "node_relu")
    refused(
        single(8, between=[relu]),
        single(6),
        r"same operators at every width, got graphs of 2 and 1 operators; forward must not",
    )


def test_attributes_that_depend_on_the_widths_are_refused_by_name():
    refused(
        single(8, pads=[1, 1, 1, 1]),
        single(6, pads=[0, 0, 0, 0]),
        r"same operators at every width, got pads of node_x that differs; forward must not",
    )


def test_a_size_that_follows_from_no_layer_is_refused_by_name():
    refused(single(8), single(7), r"got \[8, 7\] for the shape of weight where none does; exclude")


def test_a_shape_that_follows_from_no_layer_is_refused_by_name():
    def reshaped(width, last):
        view = helper.make_node("Reshape", ["x", "shape"], ["y"], "node_view")
        return single(width, between=[view], tensors={"shape": np.array([-1, last])})

    refused(reshaped(8, 5), reshaped(6, 4), r"got \[5, 4\] for the values of shape where none does")


def test_tensors_of_another_rank_are_refused():
    def shifted(width, shape):
        add = helper.make_node("Add", ["x", "shift"], ["y"], "node_add")
        return single(width, between=[add], tensors={"shift": shape})

    refused(
        shifted(8, (1, 1)), shifted(6, (1,)), r"same ranks at every width, got tensors of \[1, 2\]"
    )


def test_long_lists_of_channels_are_refused_by_name():
    def gathered(width):
        pick = helper.make_node("Gather", ["x", "chosen"], ["y"], "node_pick", axis=1)
        return single(width, between=[pick], tensors={"chosen": np.arange(16 * width)})

    refused(
        gathered(8), gathered(6), r"long lists of channels.* got chosen of shapes \[\[128\], \[96"
    )
