"""FLOPs of the operators that ``torch.utils.flop_counter`` leaves out.

And which of the rest do work that a count should not pass over in silence.
"""

import re
from collections.abc import Callable
from typing import Any

import torch

_KNOWN_NAMESPACES = {"aten", "prims", "prim", "quantized_decomposed"}
_WORK = re.compile(
    r"attention|_cdist|(cudnn|miopen|mkldnn)_|embedding_bag|_fft_|grid_sampler|linalg_|cholesky"
    r"|triangular_solve|sparse|_thnn_|transformer_encoder|_trilinear|(^|_)[a-z]*(mm|mv)(_|$)"
)


def is_uncounted_work(func: Any) -> bool:
    """Whether an operator without a formula does more than element-wise work, as far as known.

    Operators from outside PyTorch's own set count as work, since nothing is known of them.
    """
    namespace = getattr(func, "namespace", "higher_order")
    if namespace not in _KNOWN_NAMESPACES:
        return True
    return _WORK.search(func._overloadpacket.__name__) is not None


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """Scores and their weighted sum: ``[batch, heads, length, dim]``; grouped queries included."""
    batch, heads, num_queries, dim = query.shape
    return int(2 * batch * heads * num_queries * key.shape[-2] * (dim + value.shape[-1]))


def _attention_backward(grad: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """The scores once more, and the gradients of scores, values, queries and keys."""
    batch, heads, num_queries, dim = query.shape
    products = 3 * dim + 2 * value.shape[-1]
    return int(2 * batch * heads * num_queries * key.shape[-2] * products)


def _matrix_vector(matrix: Any, *_: Any, **__: Any) -> int:
    return 2 * int(matrix.numel())


def _bias_matrix_vector(bias: Any, matrix: Any, *_: Any, **__: Any) -> int:
    return 2 * int(matrix.numel())


def _recurrent_layer(inputs: Any, weight_ih: Any, weight_hh: Any, *_: Any, **__: Any) -> int:
    """One layer, one direction, on ``[length, batch, features]``."""
    num_steps = inputs.numel() // inputs.shape[-1]
    return 2 * int(num_steps * (weight_ih.numel() + weight_hh.numel()))


def _recurrent_layer_backward(
    inputs: Any, weight_ih: Any, weight_hh: Any, *_: Any, **__: Any
) -> int:
    return 2 * _recurrent_layer(inputs, weight_ih, weight_hh)


_aten = torch.ops.aten
MORE_FORMULAS: dict[Any, Callable[..., int]] = {
    _aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    _aten.mv: _matrix_vector,
    _aten.addmv: _bias_matrix_vector,
    _aten.dot: _matrix_vector,
    _aten.mkldnn_rnn_layer: _recurrent_layer,
    _aten.mkldnn_rnn_layer_backward: _recurrent_layer_backward,
}
"""Formulas by operator; each takes the operator's arguments and ``out_val``."""
