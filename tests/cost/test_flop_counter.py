"""Counting whatever runs: real training steps, errors, several entries."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from lightning_cost.cost.flop_counter import FlopCounter


def step_flops(in_features, hidden, out_features, batch):
    """Forward, and backward without the gradient of the input."""
    first, second = in_features * hidden, hidden * out_features
    return 2 * batch * (2 * first + 3 * second)


def test_a_training_step_has_forward_and_backward_and_the_optimizer_is_elementwise():
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    optimizer = torch.optim.Adam(network.parameters())
    with FlopCounter() as counter:
        loss = nn.functional.cross_entropy(network(torch.randn(5, 3)), torch.zeros(5).long())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert counter.total == step_flops(3, 4, 2, batch=5)
    assert sum(counter.by_operator.values()) == counter.total
    assert counter.unsupported == ()


def test_recomputed_activations_and_products_of_the_optimizer_count():
    layer = nn.Linear(4, 4, bias=False)
    x = torch.randn(2, 4, requires_grad=True)
    with FlopCounter() as plain:
        layer(x).relu().sum().backward()
    with FlopCounter() as recomputing:
        checkpoint(lambda x: layer(x).relu(), x, use_reentrant=False).sum().backward()
    assert recomputing.total == plain.total + 2 * 2 * 16
    muon = torch.optim.Muon([layer.weight])
    with FlopCounter() as counter:
        muon.step()
    assert counter.total == 2 * 5 * 3 * 4**3  # five Newton-Schulz steps of three products


def test_it_may_be_entered_again_and_goes_on_after_an_error():
    counter, layer = FlopCounter(), nn.Linear(3, 4)
    with counter:
        layer(torch.zeros(1, 3))
    with pytest.raises(RuntimeError, match="cannot be multiplied"), counter:
        layer(torch.zeros(1, 5))
    layer(torch.zeros(1, 3))  # outside
    with counter, counter.__class__() as inner:
        layer(torch.zeros(1, 3))
    assert counter.total == 2 * 24
    assert inner.total == 24
    assert torch.backends.mha.get_fastpath_enabled()


def test_what_nobody_counts_is_named_and_bookkeeping_is_not():
    with FlopCounter() as counter, torch.profiler.record_function("step"):
        torch.fft.fft(torch.ones(4))
        torch.linalg.vector_norm(torch.ones(4))
        nn.functional.interpolate(torch.ones(1, 1, 2, 2, 2), scale_factor=2, mode="trilinear")
    assert counter.unsupported == ("aten._fft_r2c",)


@pytest.mark.parametrize("predicate", [True, False])
def test_the_branch_that_is_taken_counts(predicate):
    layer = nn.Linear(3, 4)

    def product(x):
        return layer(x)

    def slices(x):
        return x[:, :1].expand(-1, 4).clone()

    with FlopCounter() as counter, torch.no_grad():
        torch.cond(torch.tensor(predicate), product, slices, (torch.ones(2, 3),))
    assert counter.total == (48 if predicate else 0)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_gradients_of_a_grouped_convolution_take_what_the_forward_pass_takes(kind, groups):
    """In a group, each gradient has one product for each product of the forward pass."""
    conv, x = kind(4, 8, 3, stride=2, groups=groups), torch.randn(2, 4, 9, 9, requires_grad=True)
    with FlopCounter() as forward:
        y = conv(x)
    with FlopCounter() as backward:
        y.sum().backward()
    pixels = (y if kind is nn.Conv2d else x).shape[2:].numel()
    assert forward.total == 2 * 2 * pixels * 9 * 4 * 8 // groups
    assert backward.total == 2 * forward.total
