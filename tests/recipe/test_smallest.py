"""What cannot be kept is said before anything is trained."""

import pytest
import torch

from lightning_cost.budget.model import ModelBudget
from lightning_cost.recipe.config import CompressSettings, RunConfig
from lightning_cost.recipe.smallest import require_reachable
from lightning_cost.zoo.resnet import resnet8

EXAMPLE = torch.zeros(1, 1, 8, 8)


def require(budget, **compress):
    config = RunConfig(budget=ModelBudget(**budget), compress=CompressSettings(**compress))
    require_reachable(config, resnet8(width=4, in_channels=1).eval(), EXAMPLE)


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_without_pruning_no_operation_goes(quantize):
    with pytest.raises(ValueError, match=r"without pruning, got macs <= .* \(nearest reachable: "):
        require({"macs": "50%"}, prune=False, quantize=quantize)
    require({"macs": "100%"}, prune=False, quantize=quantize)


def test_bits_make_the_network_smaller():
    require({"size_bytes": "40%", "macs": "100%"}, prune=False, quantize="int8")
    with pytest.raises(ValueError, match="size_bytes <= "):
        require({"size_bytes": "40%"}, prune=False, quantize=None)


def test_pruning_speaks_for_itself_and_a_device_is_asked_later():
    require({"macs": "1%"}, prune=True)
    require({"latency_ms": 1e-9}, prune=False)
