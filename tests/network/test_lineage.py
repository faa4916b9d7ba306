from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from lightning_cost.network.lineage import (
    Change,
    ParameterSwap,
    apply_change,
    lineage_from_list,
    lineage_of,
    lineage_to_list,
    replay,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class KeepInputs(Change):
    """The first inputs of a linear layer stay."""

    kind: ClassVar[str] = "test_keep_inputs"
    num_kept: int

    def apply(self, network: nn.Module) -> list[ParameterSwap]:
        old = network.weight
        index = torch.arange(self.num_kept)
        network.weight = nn.Parameter(old.detach()[:, index])
        return [ParameterSwap(old=old, new=network.weight, kept={1: index})]

    def to_dict(self) -> dict[str, Any]:
        return {"num_kept": self.num_kept}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "KeepInputs":
        return cls(**data)


FIVE, THREE = KeepInputs(num_kept=5), KeepInputs(num_kept=3)


def changed(*changes: Change) -> nn.Linear:
    network = nn.Linear(8, 2)
    for change in changes:
        apply_change(network, change)
    return network


def test_a_fresh_network_has_none():
    assert lineage_of(nn.Linear(8, 2)) == ()


def test_changes_are_applied_and_remembered_in_order():
    network = nn.Linear(8, 2)
    old = network.weight
    (swap,) = apply_change(network, FIVE)
    assert swap.old is old
    assert swap.new is network.weight
    apply_change(network, THREE)
    assert lineage_of(network) == (FIVE, THREE)
    assert torch.equal(network.weight, old[:, :3])


def test_a_change_that_fails_is_not_remembered():
    network = nn.Flatten()
    with pytest.raises(AttributeError, match="weight"):
        apply_change(network, FIVE)
    assert lineage_of(network) == ()


def test_a_copy_keeps_its_own_lineage():
    import copy

    network = changed(FIVE)
    copied = copy.deepcopy(network)
    apply_change(copied, THREE)
    assert lineage_of(copied) == (FIVE, THREE)
    assert lineage_of(network) == (FIVE,)


def test_to_a_list_and_back():
    import json

    data = lineage_to_list((FIVE, THREE))
    assert data == [
        {"kind": "test_keep_inputs", "num_kept": 5},
        {"kind": "test_keep_inputs", "num_kept": 3},
    ]
    assert lineage_from_list(json.loads(json.dumps(data))) == (FIVE, THREE)


@pytest.mark.parametrize("record", [{"kind": "fly_to_the_moon"}, {}])
def test_an_unknown_kind(record):
    message = r"records must be of a known kind \(.*test_keep_inputs.*\), got .* version"
    with pytest.raises(ValueError, match=message):
        lineage_from_list([record])


@pytest.mark.parametrize("done", [(), (FIVE,), (FIVE, THREE)])
def test_replay_makes_what_is_missing(done):
    network = changed(*done)
    replay(network, (FIVE, THREE))
    assert lineage_of(network) == (FIVE, THREE)
    assert network.weight.shape == (2, 3)


@pytest.mark.parametrize("done", [(THREE,), (FIVE, THREE)])
def test_replay_on_a_network_with_another_past(done):
    network = changed(*done)
    shape = network.weight.shape
    with pytest.raises(ValueError, match=rf"got one with {len(done)} other structural changes"):
        replay(network, (FIVE,))
    assert network.weight.shape == shape
