"""FLOPs of steps: the oracle is PyTorch's own counter around every single step."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lightning_cost.monitor import step_flops
from lightning_cost.monitor.step_flops import NO_TENSOR, PER_SAMPLE, SCALED, VARYING, StepFlops


def train_on(network, batch):
    network(batch).square().sum().backward()


def counted(network, batch):
    with FlopCounterMode(display=False) as mode:
        train_on(network, batch)
    return mode.get_total_flops()


def run(steps, batches, step):
    for batch in batches:
        steps.begin(batch)
        step(batch)
        steps.end()


@settings(max_examples=20)
@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=12))
def test_the_total_is_that_of_counting_every_step(sizes):
    network = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    batches = [torch.ones(size, 3) for size in sizes]
    steps = StepFlops()
    run(steps, batches, lambda batch: train_on(network, batch))
    assert steps.total == sum(counted(network, batch) for batch in batches)
    assert steps.notes == ()


@pytest.mark.parametrize(
    "batch_of",
    [
        lambda label, x: [label, x],
        lambda label, x: {"label": label, "x": x},
        lambda label, x: (label, {"name": "a", "inputs": (None, x)}),
        lambda label, x: {"label": label, "x": [*x]},
    ],
)
def test_the_shape_of_every_tensor_of_a_batch_matters(batch_of):
    network, steps = nn.Linear(8, 2), StepFlops()
    inputs = [torch.ones(2, length, 8) for length in (10, 10, 200, 300, 400, 400, 400, 10)]
    for x in inputs:
        steps.begin(batch_of(torch.zeros(2), x))
        network(x)
        steps.end()
    assert steps.total == sum(2 * 2 * x.numel() for x in inputs)
    assert steps.notes == ()


@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_nested_tensor_is_of_the_shapes_that_it_holds(layout):
    steps = StepFlops()
    for length in (3, 5, 5, 5):
        parts = [torch.ones(size, 2) for size in (2, length)]
        steps.begin([torch.zeros(2), torch.nested.nested_tensor(parts, layout=layout)])
        for part in parts:
            part @ torch.ones(2, 1)
        steps.end()
    assert steps.total == 2 * 2 * (4 * 2 + 3 + 3 * 5)
    assert steps.notes == ()


def test_a_sample_may_cost_more_in_a_larger_batch():
    # a contrastive loss: all pairs
    steps = StepFlops()
    batches = [torch.ones(size, 3) for size in (4, 4, 4, 2, 4)]
    run(steps, batches, lambda batch: batch @ batch.T)
    assert steps.total == sum(2 * 3 * len(batch) ** 2 for batch in batches)
    assert steps.notes == ()


def test_accumulated_gradients_have_an_update_now_and_then():
    steps, update = StepFlops(), torch.ones(7, 7)
    steps.has_updates = True
    for index in range(12):
        steps.begin(torch.ones(2, 3))
        torch.ones(2, 3) @ torch.ones(3, 1)
        if index % 4 == 3:
            steps.update()
            update @ update
        steps.end()
    assert steps.total == 12 * 2 * 6 + 3 * 2 * 7**3
    assert steps.notes == ()


def test_steps_that_differ_on_one_shape_are_not_exact():
    steps = StepFlops()
    depths = iter([1, 3, 2, 2])

    def step(batch):
        for _ in range(next(depths)):
            batch @ torch.ones(3, 1)

    run(steps, [torch.ones(2, 3)] * 4, step)
    assert steps.total == 12 * (1 + 3 + 2 + 2)  # the last two at the mean of the first two
    assert steps.notes == (VARYING,)


def test_of_very_many_shapes_the_last_ones_are_estimated(monkeypatch):
    monkeypatch.setattr(step_flops, "LARGEST_NUM_SHAPES", 2)
    steps = StepFlops()
    batches = [torch.ones(size, 3) for size in (1, 2, 5)]
    run(steps, batches, lambda batch: batch @ torch.ones(3, 1))
    assert steps.total == 6 * (1 + 2 + 5)
    assert steps.notes == (SCALED,)


def test_a_batch_without_tensors_is_named():
    steps = StepFlops()
    run(steps, [["text"]] * 4, lambda batch: torch.ones(2, 3) @ torch.ones(3, 1))
    assert steps.total == 4 * 12
    assert steps.notes == (NO_TENSOR,)


def test_what_cannot_be_counted_is_taken_by_the_sample():
    steps = StepFlops()
    steps.flops_per_sample = 10.0
    run(steps, [torch.ones(4, 3)] * 3, lambda batch: batch @ torch.ones(3, 1))
    assert steps.total == 120
    assert steps.notes == (PER_SAMPLE,)


def test_after_a_change_of_the_network_it_counts_anew():
    steps, widths = StepFlops(), iter([4, 4, 4, 2, 2, 2])
    for index in range(6):
        if index == 3:
            steps.forget_shapes()
        run(steps, [torch.ones(1, 3)], lambda batch: batch @ torch.ones(3, next(widths)))
    assert steps.total == 3 * 24 + 3 * 12
    assert steps.notes == ()


def test_an_error_in_a_step_leaves_nothing_behind():
    steps = StepFlops()
    steps.begin(torch.ones(1, 3))
    torch.ones(1, 3) @ torch.ones(3, 1)
    steps.abort()
    torch.ones(1, 3) @ torch.ones(3, 1)
    assert steps.total == 0
    run(steps, [torch.ones(1, 3)] * 3, lambda batch: batch @ torch.ones(3, 1))
    assert steps.total == 18


def test_a_step_that_never_ended_is_forgotten():
    steps = StepFlops()
    steps.begin(torch.ones(1, 3))
    run(steps, [torch.ones(1, 3)] * 3, lambda batch: batch @ torch.ones(3, 1))
    assert steps.total == 18


@pytest.mark.parametrize("is_inference", [True, False])
def test_evaluation_without_gradients_is_counted(is_inference):
    steps, network = StepFlops(), nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3))
    with torch.inference_mode() if is_inference else torch.no_grad():
        run(steps, [torch.ones(5, 1, 4, 4)] * 4, network)
    assert steps.total == 4 * 5 * 2 * (2 * 4 * 9 + 8 * 3)


def test_operators_without_a_formula_are_named_and_kept():
    steps = StepFlops()
    run(steps, [torch.ones(4, 8)] * 3, lambda batch: torch.fft.fft(batch))
    assert steps.total == 0
    assert any("fft" in name for name in steps.unsupported)
    other = StepFlops()
    other.load_state_dict(steps.state_dict())
    assert other.unsupported == steps.unsupported
