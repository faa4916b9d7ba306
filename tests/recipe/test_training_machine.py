import pytest

from lightning_cost.hardware.device import Hardware
from lightning_cost.recipe import training_machine
from lightning_cost.recipe.training_machine import TrainingMachine, training_hardware

TOY = {
    "name": "toy",
    "is_local": False,
    "peak_gmacs_fp32": 500.0,
    "bandwidth_gb_s": 1.0,
    "source": "test",
    "date": "2026",
}


def machine(num_devices=4, utilisation=0.25, **changes):
    hardware = Hardware(**(TOY | changes))
    return TrainingMachine.of(hardware, num_devices=num_devices, utilisation=utilisation)


def test_everything_has_a_closed_form():
    # 4 devices at a quarter of 1 TFLOPS do 3.6e15 FLOPs in an hour: four device hours
    spend = machine(power_w=1000.0, price_usd_per_hour=2.5, kind="gpu").spend(3.6e15)
    assert spend["wall_clock_s"].value == pytest.approx(3600)
    # as the fit counts it: of the machine; what its place adds is in emissions and money
    assert spend["energy_kwh"].value == pytest.approx(4)
    assert spend["co2_kg"].value == pytest.approx(4 * 1.56 * 0.445)
    assert spend["usd"].value == pytest.approx(10.0)
    assert spend["usd"].assumptions == "rent, $2.5 a device and hour"
    assert (
        "25% of 1.00 T FLOPs a second (float32, as described)" in spend["wall_clock_s"].assumptions
    )
    assert "PUE 1.56" in spend["co2_kg"].assumptions
    assert "grid.world" in spend["co2_kg"].assumptions


def test_an_owned_machine_pays_for_its_electricity():
    spend = machine(power_w=1000.0, is_owned=True, region="europe", kind="laptop")
    with pytest.raises(ValueError, match=r"region must be one of world, .* for grid, got 'europe'"):
        spend.spend(3.6e15)
    spend = machine(power_w=1000.0, is_owned=True, kind="laptop").spend(3.6e15)
    assert spend["usd"].value == pytest.approx(4 * 0.161)
    assert spend["usd"].assumptions.startswith("electricity alone, PUE 1, 0.161 USD/kWh")


def test_what_is_not_known_is_said_and_not_zero():
    spend = machine().spend(3.6e15)
    assert [spend[name].value for name in ("energy_kwh", "co2_kg", "usd")] == [None] * 3
    assert spend["energy_kwh"].assumptions == "power_w of toy is not known: describe it"
    assert spend["usd"].to_dict()["method"] == "estimated"


def test_16_bits_are_used_where_the_device_is_faster_so():
    a100 = Hardware.load("nvidia_a100")
    assert TrainingMachine.of(a100, has_16_bits=True).peak_flops == pytest.approx(312e12)
    assert TrainingMachine.of(a100).peak_flops == pytest.approx(19.5e12)
    slow = Hardware.load("raspberry_pi_4")
    assert TrainingMachine.of(slow, has_16_bits=True).peak_flops == 2e9 * slow.peak_gmacs_fp32


def test_the_peak_of_this_machine_is_measured_once(monkeypatch):
    asked = []

    def measure(*, bits, num_threads):
        asked.append((bits, num_threads))
        return 50.0

    monkeypatch.setattr(training_machine, "measured_peak_gmacs", measure)
    training_machine._measured_once.cache_clear()
    try:
        for _ in range(2):
            found = TrainingMachine.of(Hardware.local())
        assert (found.peak_flops, found.peak_source) == (
            1e11,
            "float32, measured here on a matrix product",
        )
        assert asked == [(32, None)]
        found = TrainingMachine.of(Hardware.local(), num_threads=1)
        assert found.peak_source == "float32, measured here on a matrix product with 1 thread(s)"
        assert asked == [(32, None), (32, 1)]
        assert TrainingMachine.of(Hardware.local(), has_16_bits=True).peak_source.startswith("bf")
    finally:
        training_machine._measured_once.cache_clear()


def test_hardware_by_name_or_path(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("peak_gmacs_fp32: 2\nbandwidth_gb_s: 3\nsource: me\ndate: '2026'\n")
    assert training_hardware(str(path)).name == "mine"
    assert training_hardware("nvidia_t4").name == "nvidia_t4"
    assert training_hardware("local").is_local
    with pytest.raises(ValueError, match="hardware must be one of"):
        training_hardware("abacus")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"utilisation": 0}, r"utilisation must be a share in \(0, 1\], got 0"),
        ({"utilisation": 1.1}, r"utilisation must be a share in \(0, 1\], got 1.1"),
        ({"num_devices": 0}, r"num_devices must be >= 1, got 0"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        machine(**settings)
