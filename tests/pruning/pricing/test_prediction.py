from dataclasses import replace

import numpy as np
import pytest
import torch

from lightning_cost.cost.measurement import Method
from lightning_cost.cost.resource import Resource
from lightning_cost.hardware.device import Hardware
from lightning_cost.hardware.tables.profiling import ProfileSettings, empty_table, profile
from lightning_cost.monitor.measure import measure
from lightning_cost.pruning.pricing.family import PrunedFamily
from lightning_cost.pruning.pricing.prediction import WidthPredictor
from lightning_cost.pruning.structure.groups import channel_groups
from lightning_cost.pruning.structure.plan import Plan
from lightning_cost.pruning.structure.surgery import operated, removal
from lightning_cost.zoo.mobilenet import mobilenet_v2_small
from lightning_cost.zoo.resnet import resnet8

pytest.importorskip("onnxruntime")

EXAMPLE = torch.randn(1, 1, 8, 8)
DESCRIBED = Hardware.load("raspberry_pi_4")


@pytest.fixture(params=[resnet8, mobilenet_v2_small])
def network(request):
    torch.manual_seed(0)
    return request.param(width=8, in_channels=1)


def pruned(network, grouping, widths):
    kept = {
        group.name: tuple(range(width))
        for group, width in zip(grouping.groups, widths, strict=True)
    }
    return operated(network, removal(grouping, Plan(kept=kept, num_channels=grouping.num_channels)))


@pytest.mark.parametrize("hardware", [DESCRIBED, replace(DESCRIBED, energy_model="eyeriss")])
def test_what_is_predicted_is_what_the_built_network_is_priced_at(network, hardware):
    grouping = channel_groups(network, EXAMPLE)
    predictor = WidthPredictor(network, EXAMPLE, grouping, hardware=hardware)
    totals = np.array(list(grouping.num_channels.values()))
    widths = np.random.default_rng(0).integers(1, totals, size=(3, len(totals)), endpoint=True)
    predicted = predictor.predict(widths)
    assert set(predicted) >= {
        Resource.macs,
        Resource.size_bytes,
        Resource.peak_memory_bytes,
        Resource.latency_ms,
        Resource.energy_mj,
    }
    for index, row in enumerate(widths.tolist()):
        cost = measure(pruned(network, grouping, row), EXAMPLE, hardware=hardware)
        for resource, prediction in predicted.items():
            is_exact = prediction.method is Method.exact
            value = cost[resource].value
            tolerance = 0 if is_exact else 1e-6
            assert prediction.values[index] == pytest.approx(value, rel=tolerance), resource


def test_a_local_device_without_a_table_is_not_guessed():
    network = resnet8(width=8, in_channels=1)
    grouping = channel_groups(network, EXAMPLE)
    predictor = WidthPredictor(network, EXAMPLE, grouping, hardware=Hardware.local(power_w=10))
    totals = np.array([list(grouping.num_channels.values())])
    assert Resource.latency_ms not in predictor.predict(totals)
    assert Resource.energy_mj not in predictor.predict(totals)


def test_a_table_gives_latency_with_its_error_and_energy_from_power():
    network = resnet8(width=8, in_channels=1)
    grouping = channel_groups(network, EXAMPLE)
    family = PrunedFamily(network, EXAMPLE, grouping, name="resnet8")
    table = profile(
        family,
        empty_table(family, runtime="onnxruntime"),
        settings=ProfileSettings(num_networks=22, seconds=0.02),
    )
    hardware = Hardware.local("onnxruntime", power_w=10)
    predictor = WidthPredictor(network, EXAMPLE, grouping, hardware=hardware, table=table)
    totals = np.array([list(grouping.num_channels.values())])
    predicted = predictor.predict(totals)
    latency, energy = predicted[Resource.latency_ms], predicted[Resource.energy_mj]
    assert latency.values[0] > 0
    assert latency.method is Method.estimated
    assert latency.error.num_networks == 22
    assert energy.values[0] == pytest.approx(10 * latency.values[0])
    assert energy.error is latency.error
    with pytest.raises(ValueError, match=r"table must be of .* num_threads 1 where hardware has 2"):
        WidthPredictor(
            network,
            EXAMPLE,
            grouping,
            hardware=Hardware.local("onnxruntime", num_threads=2),
            table=table,
        )
