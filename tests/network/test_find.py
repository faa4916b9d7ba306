import re

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from lightning_cost.network.find import WHOLE_MODULE, find_network


class Holder(pl.LightningModule):
    """A LightningModule with the given children."""

    def __init__(self, **children: nn.Module) -> None:
        super().__init__()
        for name, child in children.items():
            setattr(self, name, child)


def layer() -> nn.Module:
    return nn.Linear(2, 2)


def test_the_only_child_with_parameters_is_the_network():
    module = Holder(encoder=layer(), loss=nn.CrossEntropyLoss())
    assert find_network(module) == ("encoder", module.encoder)


@pytest.mark.parametrize("name", ["network", "model", "net", "backbone"])
def test_among_several_the_one_with_a_usual_name(name):
    module = Holder(projection=layer(), **{name: layer()})
    assert find_network(module) == (name, getattr(module, name))


def test_a_path_leads_into_children():
    module = Holder(parts=nn.ModuleDict({"student": layer(), "teacher": layer()}))
    assert find_network(module, "parts.student") == ("parts.student", module.parts["student"])


def test_the_whole_module():
    module = Holder(first=layer(), second=layer())
    assert find_network(module, WHOLE_MODULE) == ("", module)


def test_a_compiled_network_is_looked_through():
    module = Holder(network=layer())
    original = module.network
    module.network = torch.compile(original, backend="eager")
    assert find_network(module) == ("network._orig_mod", original)


@pytest.mark.parametrize(
    ("children", "candidates"),
    [
        ({"first": layer(), "second": layer()}, "'first', 'second', 'self'"),
        ({"net": layer(), "model": layer()}, "'net', 'model', 'self'"),
        ({"loss": nn.CrossEntropyLoss()}, "'self'"),
    ],
)
def test_where_it_cannot_be_told_candidates_and_argument_are_named(children, candidates):
    message = rf"got candidates {candidates}; pass network='NAME', or network='self'"
    with pytest.raises(ValueError, match=message):
        find_network(Holder(**children))


@pytest.mark.parametrize("path", ["netwrok", "network.nothing", "loss_of"])
def test_a_path_to_nowhere(path):
    message = rf"submodule of Holder, got {re.escape(repr(path))}; candidates: 'network', 'self'"
    with pytest.raises(ValueError, match=message):
        find_network(Holder(network=layer()), path)
