"""FLOPs of the operators that ``torch.utils.flop_counter`` leaves out or counts otherwise.

And which of the rest do work that a count should not pass over in silence.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch

_KNOWN_NAMESPACES = {"aten", "prims", "prim", "quantized_decomposed"}
_BOOKKEEPING_NAMESPACES = {"profiler", "c10d", "_c10d_functional"}
_WORK = re.compile(
    r"attention|cdist|conv(?!ert)|embedding_bag|_fft_|grid_sampler|cholesky|geqrf|orgqr|ormqr"
    r"|lu_solve|lu_with_info|triangular_solve|spsolve|householder|transformer_encoder|^_trilinear$"
    r"|linalg_(?!vector_norm|check_errors|cross|vecdot)"
    r"|(^|_)(lstm|gru|rnn|linear)(_|$)|(^|_)[a-z]*(mm|mv|matmul)(_|$)"
)
_ELEMENTWISE = re.compile(r"^_thnn_|rnn_flatten_weight")


def is_uncounted_work(func: Any) -> bool:
    """Whether an operator without a formula does more than element-wise work, as far as known.

    Operators from outside PyTorch's own set count as work, since nothing is known of them.
    """
    namespace = getattr(func, "namespace", "higher_order")
    if namespace in _BOOKKEEPING_NAMESPACES:
        return False
    if namespace not in _KNOWN_NAMESPACES:
        return True
    name = func._overloadpacket.__name__
    return _WORK.search(name) is not None and _ELEMENTWISE.search(name) is None


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """Scores and their weighted sum: ``[batch, heads, length, dim]``; grouped queries included."""
    batch, heads, num_queries, dim = query.shape
    return int(2 * batch * heads * num_queries * key.shape[-2] * (dim + value.shape[-1]))


def _attention_backward(grad: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """The scores once more, and the gradients of scores, values, queries and keys."""
    batch, heads, num_queries, dim = query.shape
    products = 3 * dim + 2 * value.shape[-1]
    return int(2 * batch * heads * num_queries * key.shape[-2] * products)


def _convolution_backward(
    grad: Any,
    inputs: Any,
    weight: Any,
    bias_sizes: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
    output_mask: Sequence[bool],
    **_: Any,
) -> int:
    """For inputs and for weights as many as forward, the groups of a grouped one apart.

    The reference multiplies the gradient of the weights by the number of groups.
    """
    pixels = (inputs if transposed else grad).shape[2:].numel()
    forward = 2 * inputs.shape[0] * pixels * weight.numel()
    return int(forward * sum(output_mask[:2]))


def _matrix_vector(matrix: Any, *_: Any, **__: Any) -> int:
    return 2 * int(matrix.numel())


def _matrix_matrix(left: Any, right: Any, *_: Any, **__: Any) -> int:
    return 2 * int(left.numel() * right.shape[-1])


def _added(product: Callable[..., int]) -> Callable[..., int]:
    """The same product behind a term that it is added to."""
    return lambda added, *args, **kwargs: product(*args, **kwargs)


def _grouped_product(left: Any, right: Any, *_: Any, **__: Any) -> int:
    """Rows [T, k] of several groups by their matrices [groups, k, n], or the other way round."""
    num_groups = left.shape[0] if left.dim() == right.dim() == 3 else 1
    return 2 * int(num_groups * left.shape[-2:].numel() * right.shape[-1])


def _recurrent_layer(inputs: Any, weight_ih: Any, weight_hh: Any, *_: Any, **__: Any) -> int:
    """One layer, one direction, on ``[length, batch, features]``."""
    return _recurrent_layers(inputs, (weight_ih, weight_hh))


def _recurrent_layers(inputs: Any, weights: Sequence[Any], *_: Any, **__: Any) -> int:
    """All layers and directions; each matrix meets each step of each sample once."""
    num_steps = inputs.numel() // max(inputs.shape[-1], 1)
    matrices = sum(weight.numel() for weight in weights if weight.dim() == 2)
    return 2 * int(num_steps * matrices)


def _twice(forward: Callable[..., int]) -> Callable[..., int]:
    """The gradients of inputs and weights; the operator's first arguments are forward's."""
    return lambda *args, **kwargs: 2 * forward(*args, **kwargs)


_aten = torch.ops.aten
MORE_FORMULAS: dict[Any, Callable[..., int]] = {
    _aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    _aten._scaled_dot_product_fused_attention_overrideable: _attention,
    _aten._scaled_dot_product_fused_attention_overrideable_backward: _attention_backward,
    _aten._scaled_dot_product_attention_math_for_mps: _attention,
    _aten.convolution_backward: _convolution_backward,
    _aten.mv: _matrix_vector,
    _aten.addmv: _added(_matrix_vector),
    _aten.dot: _matrix_vector,
    _aten.vdot: _matrix_vector,
    _aten._int_mm: _matrix_matrix,
    _aten.addbmm: _added(_matrix_matrix),
    _aten._addmm_activation: _added(_matrix_matrix),
    _aten._grouped_mm: _grouped_product,
    _aten.mkldnn_rnn_layer: _recurrent_layer,
    _aten.mkldnn_rnn_layer_backward: _twice(_recurrent_layer),
    _aten._cudnn_rnn: _recurrent_layers,
    _aten._cudnn_rnn_backward: _twice(_recurrent_layers),
    _aten.miopen_rnn: _recurrent_layers,
    _aten.miopen_rnn_backward: _twice(_recurrent_layers),
}
"""Formulas by operator; each takes the operator's arguments and ``out_val``."""
