"""Parts of a network that are called otherwise once they are quantised."""

import copy

import pytest
import torch
from torch import nn

from lightning_cost.cost.macs import count_macs
from lightning_cost.cost.resource import Resource
from lightning_cost.cost.size import count_params, size_bytes
from lightning_cost.pruning.pricing.pricer import WidthPricer
from lightning_cost.pruning.structure.groups import channel_groups
from lightning_cost.pruning.structure.plan import Plan
from lightning_cost.pruning.structure.surgery import operated, removal
from lightning_cost.quantization.callback import QuantizationAwareTraining

TOKENS = torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(0))


class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.last = nn.MultiheadAttention(8, 4, batch_first=True), nn.Linear(8, 3)

    def forward(self, x):
        return self.last((x + self.attention(x, x, x)[0]).mean(1))


class LookingUp(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.first, self.last = nn.Embedding(11, 8), nn.Linear(8, 12), nn.Linear(12, 3)

    def forward(self, ids):
        return self.last(self.first(self.table(ids).mean(1)).relu())


CASES = {
    "attention": (Attending, TOKENS),
    "encoder": (lambda: nn.TransformerEncoderLayer(8, 4, 12, batch_first=True), TOKENS),
    "table": (LookingUp, torch.arange(5)[None]),
}


@pytest.mark.parametrize("scheme", ["int8", "int4"])
@pytest.mark.parametrize("name", CASES)
def test_predicted_is_counted(name, scheme):
    build, example = CASES[name]
    torch.manual_seed(0)
    network, quantise = build().eval(), QuantizationAwareTraining(scheme)

    def preview(pruned):
        return quantise.preview(pruned, example)

    grouping = channel_groups(network, example)
    pricer = WidthPricer.from_network(network, example, grouping, preview)
    for step in (1, 2, 3):
        totals = grouping.num_channels
        kept = {group: tuple(range(0, total, step)) for group, total in totals.items()}
        plan = Plan(kept=kept, num_channels=totals)
        deployed = preview(copy.deepcopy(operated(network, removal(grouping, plan))))
        predicted = pricer.price_plan(plan)
        assert predicted[Resource.macs] == count_macs(deployed, example).total
        assert predicted[Resource.params] == count_params(deployed)
        assert predicted[Resource.size_bytes] == size_bytes(deployed)
