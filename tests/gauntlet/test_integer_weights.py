"""A layer that is listed as quantised and computes in floating point is found."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from lightning_cost import export
from lightning_cost.network.lineage import apply_change
from lightning_cost.quantization.calibrate import calibrate
from lightning_cost.quantization.plan import plan_quantization
from lightning_cost.quantization.schemes.uniform import Int8
from tests.gauntlet.strange.integer_weights import require_integer_weights
from tests.gauntlet.strange.outcome import BrokenLawError
from tests.gauntlet.strange.weights import Standardised


def _file(change_of, network, x, path):
    apply_change(network, change_of(plan_quantization(network, x)))
    calibrate(network, [x])
    return export(network, path, x)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), Standardised(4, 4, 3), nn.Flatten())


def test_what_is_planned_keeps_the_law(network, tmp_path):
    x = torch.randn(2, 3, 8, 8)
    path = _file(lambda change: change, network, x, tmp_path / "a.onnx")
    require_integer_weights(network, x, path)


def test_a_weight_that_is_computed_on_breaks_it(network, tmp_path):
    def with_all(change):
        schemes, sources = change.schemes | {"2": Int8()}, change.sources | {"2": "1"}
        return replace(change, schemes=schemes, sources=sources)

    x = torch.randn(2, 3, 8, 8)
    path = _file(with_all, network, x, tmp_path / "a.onnx")
    with pytest.raises(BrokenLawError, match=r"'2' is listed .* and ReduceMean, Sub takes its int"):
        require_integer_weights(network, x, path)


def test_a_layer_that_is_not_in_the_file_breaks_it(network, tmp_path):
    x = torch.randn(2, 3, 8, 8)
    path = export(network, tmp_path / "dense.onnx", x)
    require_integer_weights(network, x, path)
    apply_change(network, plan_quantization(network, x))
    calibrate(network, [x])
    with pytest.raises(BrokenLawError, match=r"'0' is listed as quantised, and stored as integers"):
        require_integer_weights(network, x, path)
