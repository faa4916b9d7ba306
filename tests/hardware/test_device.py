import pytest
import torch
from torch import nn

from lightning_cost.cost.measurement import Measurement, Method
from lightning_cost.cost.resource import Resource
from lightning_cost.hardware import device as device_module
from lightning_cost.hardware.device import Hardware
from lightning_cost.hardware.energy import EnergyModel
from lightning_cost.hardware.joules import NoCounters
from lightning_cost.hardware.layers import layers_of

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
    assert [measurement.model for measurement in cost.values()] == [
        "roofline",
        "power_x_latency",
        "rent at utilisation 1",
    ]
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


def test_weights_in_flash_and_activations_in_sram():
    def remarks(**room):
        cost = Hardware(**TOY, kind="microcontroller", **room).price(NETWORK, EXAMPLE)
        return cost[Resource.latency_ms].unsupported

    assert remarks(flash_bytes=4_004_000, sram_bytes=8000) == ()
    assert remarks(flash_bytes=4_003_999, sram_bytes=7999) == (
        "lack of flash: 4004000 of 4003999 bytes needed",
        "lack of SRAM: 8000 of 7999 bytes needed",
    )


def test_a_device_used_half_the_time_costs_twice():
    full, half = (
        Hardware(**TOY, price_usd_per_hour=1.0, utilisation=share).price(NETWORK, EXAMPLE)
        for share in (1.0, 0.5)
    )
    ratio = half[Resource.usd_per_million].value / full[Resource.usd_per_million].value
    assert ratio == pytest.approx(2)
    assert half[Resource.latency_ms] == full[Resource.latency_ms]


def test_an_analytic_energy_model_goes_before_power():
    hardware = Hardware(**TOY, power_w=3.0, energy_model="eyeriss")
    energy = hardware.price(NETWORK, EXAMPLE)[Resource.energy_mj]
    layers, _ = layers_of(NETWORK, EXAMPLE)
    assert energy.value == EnergyModel.load("eyeriss").energy_mj(layers)
    assert (energy.model, energy.method) == ("eyeriss", Method.estimated)
    assert Hardware(**TOY, energy_model="eyeriss").missing(Resource.energy_mj) is None


def test_an_unknown_energy_model():
    with pytest.raises(ValueError, match="energy_model must be one of eyeriss or the path"):
        Hardware(**TOY, energy_model="abacus").price(NETWORK, EXAMPLE)


def test_an_owned_device_costs_its_electricity():
    for kind, pue in (("board", 1.0), ("server", 1.56)):
        hardware = Hardware(**TOY, kind=kind, power_w=3.0, is_owned=True, region="europe")
        cost = hardware.price(NETWORK, EXAMPLE)
        kwh = 1e6 * cost[Resource.energy_mj].value / 1e3 / 3.6e6
        assert cost[Resource.usd_per_million].value == pytest.approx(kwh * pue * 0.204)
        assert cost[Resource.usd_per_million].model == f"electricity at 0.204 USD/kWh, PUE {pue:g}"
    assert "power_w" in Hardware(**TOY, is_owned=True).missing(Resource.usd_per_million)


def test_a_price_file_of_ones_own_overrides_the_rent(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "rents: {box: {value: 8 USD/h, hardware: toy, num_devices: 4, source: me, date: '2026'}}"
    )
    hardware = Hardware(**TOY, price_usd_per_hour=7.0, prices=str(path))
    assert hardware.rent_usd_per_hour == 2.0
    assert Hardware(**TOY, prices=str(path)).missing(Resource.usd_per_million) is None
    assert Hardware(**(TOY | {"name": "other"}), prices=str(path)).rent_usd_per_hour is None


def test_measured_energy_goes_before_power(monkeypatch):
    latency = Measurement(value=2.0, unit="ms", method=Method.measured, runtime="eager")
    energy = Measurement(value=5.0, unit="mJ", method=Method.measured)
    counters, asked = object(), []

    def measure(*args, **settings):
        asked.append((args, settings))
        return energy

    monkeypatch.setattr(device_module, "measure_fastest", lambda *_, **__: latency)
    monkeypatch.setattr(device_module, "local_counters", lambda: counters)
    monkeypatch.setattr(device_module, "measure_local_energy", measure)
    hardware = Hardware.local(power_w=10.0)
    assert hardware.price(NETWORK, EXAMPLE)[Resource.energy_mj] is energy
    assert asked[0][0][2:] == (latency, counters)
    assert Hardware.local().missing(Resource.energy_mj) is None


def test_without_counters_the_reason_is_given(monkeypatch):
    monkeypatch.setattr(device_module, "local_counters", lambda: NoCounters(reason="cpu: none"))
    reason = Hardware.local().missing(Resource.energy_mj)
    assert reason.endswith("no energy counter here: cpu: none")


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


def test_a_roofline_needs_peaks():
    with pytest.raises(ValueError, match=r"peak_gmacs_fp32 must be given to estimate latency on"):
        Hardware.local().roofline()


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


def test_a_file_cannot_read_the_environment(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("source: ${oc.env:HOME}\n")
    with pytest.raises(ValueError, match=r"got '\$\{oc.env:HOME\}', which asks for a value"):
        Hardware.from_yaml(path)
