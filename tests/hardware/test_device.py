import pytest
import torch
from torch import nn

from lightning_cost.cost.measurement import Measurement, Method
from lightning_cost.cost.resource import Resource
from lightning_cost.hardware import device as device_module
from lightning_cost.hardware.device import Hardware

TOY = {
    "name": "toy",
    "is_local": False,
    "peak_gmacs_fp32": 1.0,
    "bandwidth_gb_s": 1e9,
    "source": "test",
    "date": "2025",
}
NETWORK = nn.Linear(1000, 1000).eval()
EXAMPLE = torch.zeros(1, 1000)


def test_described_costs_have_a_closed_form():
    hardware = Hardware(**TOY, power_w=3.0, price_usd_per_hour=7.2, batch_size=4)
    cost = hardware.price(NETWORK, EXAMPLE)
    latency_ms = 4 * 1e6 / 1e9 * 1e3
    assert cost[Resource.latency_ms].value == pytest.approx(latency_ms)
    assert cost[Resource.energy_mj].value == pytest.approx(3 * latency_ms)
    # a million inferences are 250,000 batches of 4 ms: 1000 s at 0.002 USD/s
    assert cost[Resource.usd_per_million].value == pytest.approx(2.0)
    for measurement in cost.values():
        assert measurement.method is Method.estimated
        assert (measurement.device, measurement.batch_size) == ("toy", 4)


def test_a_network_too_big_for_the_memory_is_remarked():
    fits = Hardware(**TOY, memory_bytes=5e6).price(NETWORK, EXAMPLE)
    assert fits[Resource.latency_ms].unsupported == ()
    cost = Hardware(**TOY, memory_bytes=1e6).price(NETWORK, EXAMPLE)
    needed = 4 * (1_001_000 + 2000)
    assert cost[Resource.latency_ms].unsupported == (
        f"lack of memory: {needed} of 1000000 bytes needed",
    )


def test_local_latency_is_measured_and_the_rest_follows(monkeypatch):
    asked = {}

    def fake(network, example, **settings):
        asked.update(settings, batch_size=len(example))
        return Measurement(value=2.0, unit="ms", method=Method.measured, runtime="eager")

    monkeypatch.setattr(device_module, "measure_fastest", fake)
    hardware = Hardware.local(num_threads=3, batch_size=5, power_w=10.0)
    cost = hardware.price(NETWORK, EXAMPLE)
    assert asked == {"runtime": None, "num_threads": 3, "precision": "float32", "batch_size": 5}
    assert cost[Resource.latency_ms].method is Method.measured
    assert cost[Resource.energy_mj].value == 20.0
    assert cost[Resource.energy_mj].method is Method.estimated
    assert Resource.usd_per_million not in cost


def test_a_local_measurement_says_where_it_comes_from():
    latency = Hardware.local(runtime="eager").price(NETWORK, EXAMPLE)[Resource.latency_ms]
    assert latency.value > 0
    assert (latency.runtime, latency.num_threads, latency.batch_size) == ("eager", 1, 1)


def test_missing_says_what_to_add():
    hardware = Hardware(**TOY)
    assert hardware.missing(Resource.latency_ms) is None
    assert hardware.missing(Resource.macs) is None
    assert "power_w of hardware 'toy' must be known" in hardware.missing(Resource.energy_mj)
    assert "price_usd_per_hour of hardware" in hardware.missing(Resource.usd_per_million)


@pytest.mark.parametrize("name", ["peak_gmacs_fp32", "bandwidth_gb_s", "source", "date"])
def test_a_description_must_be_complete(name):
    with pytest.raises(ValueError, match=f"{name} must be given for hardware that is not local"):
        Hardware(**(TOY | {name: None}))


@pytest.mark.parametrize("name", ["num_threads", "batch_size", "power_w", "bandwidth_gb_s"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_figures_must_be_positive(name, value):
    with pytest.raises(ValueError, match=f"{name} of hardware 'toy' must be > 0, got {value}"):
        Hardware(**(TOY | {name: value}))


def test_unknown_precision():
    with pytest.raises(ValueError, match="precision must be one of float32, bfloat16, got 'int8'"):
        Hardware.local(precision="int8")


def test_unknown_runtime():
    with pytest.raises(ValueError, match=r"runtime must be one of .*got 'abacus'"):
        Hardware.local(runtime="abacus").price(NETWORK, EXAMPLE)


def test_from_yaml(tmp_path):
    path = tmp_path / "my_board.yaml"
    path.write_text(
        "defaults: [base]\npeak_gmacs_fp32: 2\nbandwidth_gb_s: 3\nsource: me\ndate: '2025'\n"
    )
    hardware = Hardware.from_yaml(path)
    assert (hardware.name, hardware.is_local, hardware.peak_gmacs_fp32) == ("my_board", False, 2)


def test_from_yaml_without_a_peak(tmp_path):
    path = tmp_path / "my_board.yaml"
    path.write_text("bandwidth_gb_s: 3\nsource: me\ndate: '2025'\n")
    with pytest.raises(ValueError, match=r"peak_gmacs_fp32 must be given .*'my_board'"):
        Hardware.from_yaml(path)


def test_from_yaml_with_a_typo(tmp_path):
    path = tmp_path / "my_board.yaml"
    path.write_text("peak_gflops: 3\n")
    with pytest.raises(ValueError, match=r"must have known entries .*got peak_gflops in"):
        Hardware.from_yaml(path)


def test_fingerprints():
    assert Hardware(**TOY).fingerprint() == {"name": "toy", "source": "test", "date": "2025"}
    assert "cpu" in Hardware.local().fingerprint()
