"""What the exporter writes into an ONNX file beside the network, and its removal."""

from typing import Any


def remove_notes(model: Any) -> None:
    """Remove from ``model`` in place what no runtime computes with.

    That is, on every node and value, the stack traces and scopes of the exported Python code, and
    the shapes of values inside the graph, which every runtime infers for itself. Names, and the
    types and shapes of inputs and outputs, stay.

    Args:
        model: As ``onnxscript.ir`` represents it.
    """
    for owner in (model.graph, *model.functions.values()):
        _clear(owner)
        for value in (*owner.inputs, *owner.outputs, *getattr(owner, "initializers", {}).values()):
            _clear(value)
        for node in owner.all_nodes():
            _clear(node)
            _clear(node.graph)
            for value in node.outputs:
                _clear(value)
                if not value.is_graph_output():
                    value.shape = value.type = None


def _clear(noted: Any) -> None:
    noted.metadata_props.clear()
    noted.doc_string = None
