"""Optimizers after surgery, against the state they had, indexed by hand."""

import copy

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from lightning_cost.network.lineage import ParameterSwap
from lightning_cost.network.optimizer import require_cuttable, swap_parameters
from lightning_cost.pruning.structure.groups import channel_groups
from lightning_cost.pruning.structure.surgery import removal
from lightning_cost.quantization.plan import plan_quantization
from lightning_cost.quantization.rules import QuantizationRules
from tests.reference.plans import plans
from tests.reference.random_networks import images, networks

OPTIMIZERS = {
    "sgd": lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9, nesterov=True),
    "sgd_plain": lambda params: torch.optim.SGD(params, lr=0.1),
    "adam": lambda params: torch.optim.Adam(params, amsgrad=True),
    "adam_fused": lambda params: torch.optim.Adam(params, fused=True),
    "adamw_foreach": lambda params: torch.optim.AdamW(params, foreach=True),
    "rmsprop": lambda params: torch.optim.RMSprop(params, momentum=0.9, centered=True),
    "adagrad": lambda params: torch.optim.Adagrad(params),
    "adafactor": lambda params: torch.optim.Adafactor(params, lr=0.1),
    "nadam": lambda params: torch.optim.NAdam(params),
    "adamax": lambda params: torch.optim.Adamax(params),
}


def _step(network, optimizer):
    optimizer.zero_grad()
    network(images()).pow(2).sum().backward()
    optimizer.step()


@pytest.mark.parametrize("kind", OPTIMIZERS)
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_state_is_indexed_and_the_next_step_moves_everything(kind, data):
    network = data.draw(networks(max_blocks=2)).train()
    if data.draw(st.booleans()):
        network.to(memory_format=torch.channels_last)
    optimizer = OPTIMIZERS[kind](network.parameters())
    _step(network, optimizer)
    grouping = channel_groups(network, images())
    swaps = removal(grouping, data.draw(plans(grouping))).apply(network)
    before = {swap.old: copy.deepcopy(optimizer.state.get(swap.old)) for swap in swaps}
    swap_parameters(optimizer, swaps)

    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert list(map(id, held)) == list(map(id, network.parameters()))
    assert set(optimizer.state) <= set(held)
    for swap in swaps:
        for key, state in (before[swap.old] or {}).items():
            old, new = state, optimizer.state[swap.new][key]
            if isinstance(old, torch.Tensor) and old.dim() == swap.old.dim():
                is_whole = old.shape == swap.old.shape
                for dim, index in swap.kept.items():
                    if old.shape[dim] == swap.old.shape[dim]:  # else a factor, of size 1
                        old = old.index_select(dim, index)
                assert not is_whole or new.shape == swap.new.shape
                assert not is_whole or new.stride() == swap.new.stride()
            assert (
                torch.equal(torch.as_tensor(new), torch.as_tensor(old))
                if old is not None
                else new is None
            )

    values = [parameter.detach().clone() for parameter in held]
    _step(network, optimizer)
    gradients = [p.grad.abs().max().item() for p in held if p.grad is not None]
    for value, parameter in zip(values, held, strict=True):
        moved = not torch.equal(value, parameter)
        small = _ROUNDING * max(1.0, *gradients)
        assert moved or parameter.grad is None or parameter.grad.abs().max() < small


# what is left of a gradient that is zero but for rounding, as before a batch norm
_ROUNDING = 1e-6


def _swap(old, new, kept=None):
    return ParameterSwap(old=old, new=new, kept=kept or {})


def _two_groups():
    a, b, c = (nn.Parameter(torch.ones(4)) for _ in range(3))
    optimizer = torch.optim.SGD([{"params": [a, b]}, {"params": [c], "lr": 0.5}], lr=0.1)
    return optimizer, a, b, c


def _held(optimizer):
    return [list(map(id, group["params"])) for group in optimizer.param_groups]


def test_parameters_keep_their_place_in_their_group():
    optimizer, a, b, c = _two_groups()
    new_a, new_c = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    kept = {0: torch.tensor([0, 3])}
    swap_parameters(optimizer, [_swap(c, new_c, kept), _swap(a, new_a, kept)])
    assert _held(optimizer) == [[id(new_a), id(b)], [id(new_c)]]
    assert optimizer.param_groups[1]["lr"] == 0.5


def test_what_is_removed_leaves_and_takes_its_state_along():
    optimizer, a, b, c = _two_groups()
    optimizer.state[a] = {"momentum_buffer": torch.ones(4)}
    swap_parameters(optimizer, [_swap(a, None)])
    assert _held(optimizer) == [[id(b)], [id(c)]]
    assert a not in optimizer.state


def test_what_is_new_joins_what_was_swapped_with_it():
    optimizer, a, b, c = _two_groups()
    bias = nn.Parameter(torch.ones(4))
    swap_parameters(optimizer, [_swap(c, None), _swap(None, bias)])
    assert _held(optimizer) == [[id(a), id(b)], [id(bias)]]


def test_what_is_new_alone_joins_the_first_group():
    optimizer, a, b, c = _two_groups()
    bias = nn.Parameter(torch.ones(4))
    swap_parameters(optimizer, [_swap(None, bias)])
    assert _held(optimizer) == [[id(a), id(b), id(bias)], [id(c)]]


def test_an_optimizer_of_other_parameters_is_left_alone():
    optimizer, a, b, c = _two_groups()
    other, new = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(2))
    swap_parameters(optimizer, [_swap(other, new), _swap(None, nn.Parameter(torch.ones(1)))])
    assert _held(optimizer) == [[id(a), id(b)], [id(c)]]


def test_state_that_is_of_no_channel_is_refused_and_nothing_is_changed():
    optimizer, a, *_ = _two_groups()
    optimizer.state[a] = {"blocks": torch.ones(7)}
    swap = _swap(a, nn.Parameter(torch.ones(2)), {0: torch.tensor([1, 2])})
    with pytest.raises(
        ValueError, match=r"got SGD with 'blocks' of \(7,\) for a parameter of \(4,"
    ):
        swap_parameters(optimizer, [swap])
    assert optimizer.param_groups[0]["params"][0] is a


def test_an_optimizer_with_flat_state_is_refused():
    network = nn.Linear(2, 2)
    optimizer = torch.optim.LBFGS(network.parameters())
    require_cuttable(optimizer)  # nothing is gathered yet
    optimizer.step(lambda: network(torch.ones(1, 2)).pow(2).sum())
    with pytest.raises(ValueError, match=r"got LBFGS with .* train with SGD, Adam"):
        require_cuttable(optimizer)


def test_numbers_go_along_whole():
    optimizer, a, *_ = _two_groups()
    step, history = torch.tensor(3.0), [1, 2]
    optimizer.state[a] = {"step": step, "history": history, "momentum_buffer": None}
    new = nn.Parameter(torch.ones(2))
    swap_parameters(optimizer, [_swap(a, new, {0: torch.tensor([1, 2])})])
    state = optimizer.state[new]
    assert state["step"] is step
    assert state["history"] is history
    assert state["momentum_buffer"] is None


@pytest.mark.parametrize("scheme", ["int4", "flightnn"])
def test_what_is_trained_beside_a_weight_joins_its_optimizer_and_group(scheme):
    network, other = (nn.Sequential(nn.Conv2d(1, 4, 3), nn.Linear(6, 2)) for _ in range(2))
    weights, rest = [network[0].weight], [network[0].bias, *network[1].parameters()]
    own = torch.optim.SGD([{"params": rest}, {"params": weights}], lr=0.1)
    foreign = torch.optim.SGD(other.parameters(), lr=0.1)
    rules = QuantizationRules(learns_scales=scheme == "int4", overrides={"*": scheme})
    swaps = plan_quantization(network, torch.randn(1, 1, 8, 8), scheme, rules).apply(network)
    for optimizer in (own, foreign):
        swap_parameters(optimizer, swaps)
    assert [len(group["params"]) for group in foreign.param_groups] == [4]
    held = [parameter for group in own.param_groups for parameter in group["params"]]
    assert len(held) == len(set(held)) > 4
    assert set(held) == set(network.parameters())
    (quantizer,) = network[0].parametrizations.weight
    assert set(quantizer.parameters()) <= set(own.param_groups[1]["params"])
