"""Bad input: what a network does not take, said so that it can be mended."""

import pytest
import torch
from torch import nn

from lightning_cost.cost.macs import count_macs
from lightning_cost.cost.memory import peak_memory_bytes
from lightning_cost.cost.training_flops import count_training_flops

COUNTERS = pytest.mark.parametrize(
    "count", [count_macs, count_training_flops, peak_memory_bytes], ids=lambda f: f.__name__
)


class Failing(nn.Module):
    """Raises its user's own error."""

    def __init__(self, error, *, only_in_eval=False):
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.norm = nn.BatchNorm1d(3)
        self.error, self.only_in_eval = error, only_in_eval

    def forward(self, x):
        x = self.norm(self.layer(x))
        if self.only_in_eval and self.training:
            return x
        raise self.error


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        return self.layer(x) if x.sum() > 0 else x


class Choosing(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        return self.layer(x[x > 0][None])


def network():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def state_of(network):
    return (
        {name: value.clone() for name, value in network.state_dict().items()},
        [module.training for module in network.modules()],
        [
            len(module._forward_hooks) + len(module._forward_pre_hooks)
            for module in network.modules()
        ],
        torch.get_rng_state(),
        torch.backends.mha.get_fastpath_enabled(),
    )


def assert_as_found(network, state):
    found = state_of(network)
    assert all(torch.equal(found[0][name], value) for name, value in state[0].items())
    assert found[1:3] == state[1:3]
    assert torch.equal(found[3], state[3])
    assert found[4] == state[4]


@COUNTERS
@pytest.mark.parametrize(
    ("example", "message"),
    [
        (
            torch.zeros(1, 5),
            r"example must have the shape that the network takes, got float32 \[\d, 5\] on cpu: "
            r"mat1 and mat2 shapes cannot be multiplied .* in module '0' \(Linear\); give a batch",
        ),
        (
            torch.zeros(1, 3, dtype=torch.float64),
            r"example must have the dtype that the network takes, got float64 \[\d, 3\] on cpu: .*"
            r"dtype.* in module '0' \(Linear\)",
        ),
        (
            torch.zeros(1, 3, device="meta"),
            r"example must be on the network's device cpu, got float32 \[\d, 3\] on meta: .*; "
            r"move one of them with \.to\(device\)",
        ),
        (
            torch.zeros(1, 0),
            r"example must hold at least one .* no dimension of size 0, got float32 \[1, 0\]",
        ),
        (
            torch.zeros(0, 3),
            r"example must hold at least one sample .* got float32 \[0, 3\] on cpu",
        ),
    ],
    ids=["shape", "dtype", "device", "zero", "empty"],
)
def test_an_example_that_the_network_does_not_take_is_named(count, example, message):
    subject = network().train()
    state = state_of(subject)
    with pytest.raises(ValueError, match=message):
        count(subject, example)
    assert_as_found(subject, state)


@COUNTERS
@pytest.mark.parametrize("error", [KeyError("mine"), RuntimeError("mine"), OSError(2, "mine")])
def test_the_users_own_error_comes_through_with_what_was_tried(count, error):
    subject = Failing(error)
    state = state_of(subject)
    with pytest.raises(
        type(error),
        match=r"mine(.|\n)*The network raised this.*Tried with: float32 \[\d, 3\] on cpu",
    ):
        count(subject, torch.zeros(1, 3))
    assert_as_found(subject, state)


@pytest.mark.parametrize("count", [count_macs, peak_memory_bytes])
def test_an_error_in_evaluation_mode_alone_is_said_to_be_one(count):
    subject = nn.Sequential(Failing(ValueError("only for training"), only_in_eval=True))
    state = state_of(subject)
    with pytest.raises(
        ValueError,
        match=r"only for training\n.*evaluation mode in module '0' \(Failing\), and runs in "
        r"training mode; .* make it run after \.eval\(\)\. Tried with: float32 \[1, 3\]",
    ):
        count(subject, torch.zeros(1, 3))
    assert_as_found(subject, state)


@pytest.mark.parametrize("count", [count_macs, peak_memory_bytes])
@pytest.mark.parametrize("kind", [Branching, Choosing])
def test_control_flow_that_depends_on_data_is_counted_on_the_cpu_and_refused_on_meta(count, kind):
    assert count(kind(), torch.ones(1, 3))
    with pytest.raises(
        ValueError,
        match=r"network must not depend on the values of its activations on the meta device, .*; "
        "count it on the CPU, with an example there",
    ):
        count(kind().to("meta"), torch.ones(1, 3, device="meta"))


def test_a_network_that_makes_tensors_elsewhere_is_not_taken_for_one():
    class Elsewhere(nn.Module):
        def forward(self, x):
            return x + torch.ones(3, 3, device="cpu")

    with pytest.raises(RuntimeError, match=r"(?s)device.*Tried with: float32 .1, 3. on meta"):
        count_macs(Elsewhere(), torch.ones(1, 3, device="meta"))
