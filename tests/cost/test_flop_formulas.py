"""Formulas of kernels that this machine does not run, against those that it does."""

import pytest
import torch

from lightning_cost.cost.flop_formulas import MORE_FORMULAS, is_uncounted_work

aten = torch.ops.aten


def of(operator, *args):
    return MORE_FORMULAS[operator](*args, out_val=None)


def test_every_kernel_of_attention_has_the_same_formula():
    query, key, value = (torch.zeros(2, 4, n, d) for n, d in ((5, 8), (6, 8), (6, 3)))
    expected = 2 * 2 * 4 * 5 * 6 * (8 + 3)
    for operator in MORE_FORMULAS:
        name = str(operator)
        if "scaled_dot_product" in name and "backward" not in name:
            assert of(operator, query, key, value) == expected, name


def test_a_stack_of_recurrent_layers_is_the_sum_of_its_layers():
    inputs = torch.zeros(7, 2, 5)
    first = [torch.zeros(12, 5), torch.zeros(12, 3), torch.zeros(12), torch.zeros(12)]
    second = [torch.zeros(12, 3), torch.zeros(12, 3), torch.zeros(12), torch.zeros(12)]
    expected = 2 * 14 * 12 * (5 + 3 + 3 + 3)
    for operator in (aten._cudnn_rnn, aten.miopen_rnn):
        assert of(operator, inputs, first + second, 4) == expected
    assert of(aten._cudnn_rnn_backward, inputs, first + second, 4) == 2 * expected


@pytest.mark.parametrize(
    ("left", "right", "flops"),
    [
        ((10, 4), (3, 4, 6), 2 * 10 * 4 * 6),
        ((3, 5, 4), (3, 4, 6), 2 * 3 * 5 * 4 * 6),
        ((5, 10), (10, 6), 2 * 5 * 10 * 6),
    ],
)
def test_grouped_products(left, right, flops):
    assert of(aten._grouped_mm, torch.zeros(left), torch.zeros(right)) == flops


@pytest.mark.parametrize(
    ("function", "flops"),
    [
        (lambda: torch._int_mm(torch.ones(32, 16).char(), torch.ones(16, 8).char()), 8192),
        (lambda: torch.addbmm(torch.ones(2, 4), torch.ones(5, 2, 3), torch.ones(5, 3, 4)), 240),
        (lambda: torch.addmv(torch.ones(2), torch.ones(2, 3), torch.ones(3)), 12),
        (lambda: torch.vdot(torch.ones(3), torch.ones(3)), 6),
    ],
)
def test_products_in_closed_form(function, flops):
    from lightning_cost.cost.flop_counter import FlopCounter

    with FlopCounter() as counter:
        function()
    assert counter.total == flops
    assert counter.unsupported == ()


@pytest.mark.parametrize(
    "operator",
    [
        aten._trilinear.default,
        aten._cdist_forward.default,
        aten.grid_sampler_2d.default,
        aten.linalg_qr.default,
        aten.mkldnn_convolution.default,
        aten._weight_int8pack_mm.default,
        aten.cudnn_convolution_relu.default,
    ],
)
def test_work_is_recognised(operator):
    assert is_uncounted_work(operator)


@pytest.mark.parametrize(
    "operator",
    [
        aten.relu.default,
        aten.cudnn_batch_norm.default,
        aten.upsample_trilinear3d.default,
        aten.linalg_vector_norm.default,
        aten._thnn_fused_lstm_cell.default,
        aten.bilinear.default,
        aten._convert_indices_from_coo_to_csr.default,
    ],
)
def test_what_is_elementwise_or_only_moves_is_not_work(operator):
    assert not is_uncounted_work(operator)
