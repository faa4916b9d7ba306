"""Quantised results of convolutions that are added up, written so that every runtime rounds them.

Where a convolution, quantisation, an addition and quantisation again follow one another, OpenVINO's
CPU plugin runs all as one operator and leaves out the rounding before the addition. A network that
was trained with it then computes something else: one level more or less for every fifth value of
such a sum. The plugin leaves it out in the first operator after the convolution and in no other, so
that a second quantisation on the same grid, which changes nothing, is rounded. ONNX Runtime removes
the second one.
"""

from typing import Any

_ACTIVATIONS = ("Relu", "Clip")


def round_addends_twice(model: Any) -> None:
    """Quantise in ``model`` a second time, in place, what OpenVINO would not round before a sum.

    That is each result of a convolution, an activation after it included, that is quantised and
    then read by one addition and nothing else. Every value in the graph stays as it is. Grids that
    start at zero, as after a ReLU, are left alone: OpenVINO would remove their second quantisation.

    Args:
        model: As ``onnxscript.ir`` represents it.
    """
    from onnxscript import ir

    for node in list(model.graph):
        if node.op_type != "DequantizeLinear" or not _is_addend(node.outputs[0]):
            continue
        quantize = node.inputs[0].producer()
        if quantize is None or not _is_of_a_convolution(quantize.inputs[0]):
            continue
        zero_point = ir.convenience.get_const_tensor(quantize.inputs[2])
        if zero_point is None or not zero_point.numpy().any():
            continue
        ((reader, place),) = node.outputs[0].uses()
        # the same constants, not equal ones: with those OpenVINO runs it as an operator of its own
        again = ir.node(
            quantize.op_type,
            [node.outputs[0], *quantize.inputs[1:]],
            attributes=quantize.attributes,
            outputs=[_again(quantize)],
            name=f"{quantize.name}_again",
        )
        back = ir.node(
            node.op_type,
            [again.outputs[0], *node.inputs[1:]],
            attributes=node.attributes,
            outputs=[_again(node)],
            name=f"{node.name}_again",
        )
        reader.replace_input_with(place, back.outputs[0])
        model.graph.insert_after(node, [again, back])


def _again(node: Any) -> Any:
    """A result named after that of ``node``: numbers would depend on the rest of the graph."""
    from onnxscript import ir

    return ir.Value(name=f"{node.outputs[0].name}_again")


def _is_addend(value: Any) -> bool:
    """Whether one addition, and nothing else, reads ``value``, once."""
    uses = list(value.uses())
    return len(uses) == 1 and uses[0][0].op_type == "Add" and not value.is_graph_output()


def _is_of_a_convolution(value: Any) -> bool:
    """Whether a convolution wrote ``value``, or an activation that OpenVINO makes a part of it."""
    node = value.producer()
    while node is not None and node.op_type in _ACTIVATIONS and len(value.uses()) == 1:
        value = node.inputs[0]
        node = value.producer()
    return node is not None and node.op_type == "Conv"
