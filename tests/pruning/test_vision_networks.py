"""Networks of torchvision, timm and transformers: all of them are in docs/pruned_networks.md."""

import pytest
import torch

from benchmarks.pruning_zoo_networks import build
from lightning_cost.cost.forward import run_forward, tensors_of
from lightning_cost.cost.macs import count_macs
from lightning_cost.pruning.structure.groups import channel_groups
from lightning_cost.pruning.structure.plan import Plan, masked
from lightning_cost.pruning.structure.surgery import operated, removal

pytestmark = [pytest.mark.vision, pytest.mark.filterwarnings("default")]

# the most that may be left of the MACs when every group keeps a quarter of its channels
LEFT = {
    "torchvision/resnet18": 0.15,
    "torchvision/resnext50_32x4d": 0.25,
    "torchvision/regnet_y_400mf": 0.25,
    "torchvision/densenet121": 0.25,
    "torchvision/mobilenet_v2": 0.25,
    "torchvision/mobilenet_v3_small": 0.25,
    "torchvision/efficientnet_b0": 0.25,
    "torchvision/shufflenet_v2_x0_5": 0.5,
    "torchvision/squeezenet1_1": 0.25,
    "torchvision/googlenet": 0.25,
    "torchvision/convnext_tiny": 0.5,
    "torchvision/vit_b_16": 0.5,
    "torchvision/swin_t": 0.6,
    "efficientnet_lite_pytorch/efficientnet_lite0": 0.25,
    "timm/vit_tiny_patch16_224": 0.5,
    "transformers/gpt2": 0.5,
    "transformers/bert": 0.5,
    "transformers/llama": 0.5,
}


@pytest.mark.parametrize("case", LEFT)
def test_removed_is_silenced(case):
    pytest.importorskip(case.split("/")[0])
    network, example = build(case)
    grouping = channel_groups(network, example)
    totals = grouping.num_channels
    kept = {name: tuple(range(0, total, 4)) for name, total in totals.items()}
    plan = Plan(kept=kept, num_channels=totals)
    pruned = operated(network, removal(grouping, plan))
    with torch.no_grad():
        found = tensors_of(run_forward(pruned, example))
        expected = tensors_of(run_forward(masked(network, grouping, plan), example))
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert (one - other).abs().max() <= 2e-3 * other.abs().max().clamp(min=1e-12)
    share = count_macs(pruned, example).total / count_macs(network, example).total
    assert share <= LEFT[case]
